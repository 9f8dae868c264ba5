"""A real browser for tests: headless Chromium, spoken to over the DevTools protocol.

`Chromium` owns the process and its throw-away profile, `Page` one tab. A page collects every complaint of the browser:
errors on the console, uncaught exceptions, violations of the content security policy. Nothing here knows Syncline.
"""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from websockets.sync.client import connect

__all__ = ["Chromium", "Page", "PageError", "find_chromium"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)
_START_S = 30.0
_CALL_S = 30.0


class PageError(Exception):
    """Code that a test ran in the page has thrown, or what it waited for has not come."""


def find_chromium() -> str | None:
    """Return the browser that `SYNCLINE_TEST_CHROMIUM` names, or the one on the path, or None."""
    named = os.environ.get("SYNCLINE_TEST_CHROMIUM")
    if named:
        return shutil.which(named)
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """One browser process. Close it, or use it in a `with`."""

    def __init__(self, executable: str, profile: Path) -> None:
        self._process = subprocess.Popen(
            [executable, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._pages: list[Page] = []
        try:
            self._port = self._wait_for_port(profile / "DevToolsActivePort")
        except BaseException:
            self.close()
            raise

    def _wait_for_port(self, file: Path) -> int:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if file.exists() and (lines := file.read_text().splitlines()):
                return int(lines[0])
            time.sleep(0.05)
        raise PageError(f"chromium has not started within {_START_S:g} s (exit code {self._process.poll()})")

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self) -> "Page":
        """Open an empty tab."""
        request = Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with build_opener(ProxyHandler({})).open(request, timeout=_CALL_S) as answer:
            page = Page(json.load(answer)["webSocketDebuggerUrl"])
        self._pages.append(page)
        return page

    def close(self) -> None:
        """End the browser and wait for it."""
        for page in self._pages:
            page.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Page:
    """One tab. `complaints` has what the browser complained about, as `source: text`.

    It logs every refused request by itself, and may do so late: what a test expects is in `expected`, parts of texts.
    """

    def __init__(self, url: str) -> None:
        self._closing = ExitStack()
        self._socket = self._closing.enter_context(connect(url, max_size=None, compression=None, proxy=None))
        self._next_id = 1
        self.complaints: list[str] = []
        self.expected: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        """Forget the tab; it ends with the browser."""
        self._closing.close()

    def open(self, url: str) -> None:
        """Go to an address and wait until the page has loaded."""
        answer = self._call("Page.navigate", url=url)
        if "errorText" in answer:
            raise PageError(f"{url}: {answer['errorText']}")
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def forget_cookies(self) -> None:
        """Drop all cookies of the browser; those of a host are the same for all of its ports."""
        self._call("Network.clearBrowserCookies")

    def cookies(self) -> dict[str, str]:
        """Return the cookies of the page's address, also those that no script can read."""
        return {cookie["name"]: cookie["value"] for cookie in self._call("Network.getCookies")["cookies"]}

    def screenshot(self, path: Path) -> None:
        """Write what is seen into a PNG file."""
        path.write_bytes(b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def unexpected(self) -> list[str]:
        """Return the complaints that no test has expected."""
        return [text for text in self.complaints if not any(part in text for part in self.expected)]

    def emulate(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Change the size of the window and the preferred colour scheme."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited if it is a promise, as JSON."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise PageError(_text_of_exception(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str, *, timeout_s: float = 15.0) -> Any:
        """Wait until an expression is truthy, and return its value.

        The page is asked anew each time, so that the waiting outlives a navigation.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                value = self.evaluate(condition)
            except PageError as error:
                if "navigated" not in str(error) and "context" not in str(error).lower():
                    raise
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                body = self.evaluate("document.body.innerText")
                raise PageError(f"not within {timeout_s:g} s: {condition}\ncomplaints: {self.complaints}\npage: {body}")
            time.sleep(0.03)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'nearest'});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        self._call("Input.dispatchMouseEvent", type="mousePressed", **where)
        self._call("Input.dispatchMouseEvent", type="mouseReleased", **where)

    def type(self, text: str) -> None:
        """Type text into what has the focus."""
        self._call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release one key, such as `p` or `ArrowDown`."""
        named = {"Enter": (13, "\r"), "Escape": (27, ""), "ArrowDown": (40, ""), "ArrowUp": (38, ""), "Tab": (9, "")}
        code, text = named.get(key, (ord(key[0].upper()), key))
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def _call(self, method: str, **params: object) -> dict[str, Any]:
        number, self._next_id = self._next_id, self._next_id + 1
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        deadline = time.monotonic() + _CALL_S
        while True:
            message = json.loads(self._socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            if message.get("id") != number:
                self._note(message)
            elif "error" in message:
                raise PageError(f"{method}: {message['error']['message']}")
            else:
                result: dict[str, Any] = message["result"]
                return result

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {_text_of_exception(params['exceptionDetails'])}")
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"console: {[item.get('value') for item in params['args']]}")
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.complaints.append(f"{entry['source']}: {entry['text']} ({entry.get('url', '')})")


def _text_of_exception(details: dict[str, Any]) -> str:
    described: str = details.get("exception", {}).get("description", details["text"])
    return described
