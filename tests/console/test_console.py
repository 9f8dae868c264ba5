"""The console in a real browser, over the real protocol, with a real server."""

import json
from pathlib import Path

import pytest

from .chromium import Page
from .server import ServerProcess
from .test_files import FILES


def open_store(page: Page, server: ServerProcess, store: str) -> None:
    """Open the console at a store and wait until its tail is live."""
    page.open(f"{server.url}/#{store}")
    wait_until_live(page)


def wait_until_live(page: Page) -> None:
    page.wait_for("document.getElementById('pill-text').textContent === 'Live'")


def rows_of(page: Page) -> list[list[str]]:
    """Return op, seq, key and value of every row that is shown."""
    rows: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('#rows .row:not([hidden])')].map("
        "row => ['op', 'seq', 'key', 'value'].map(name => row.querySelector('.' + name).textContent))"
    )
    return rows


def wait_for_rows(page: Page, count: int) -> list[list[str]]:
    page.wait_for(f"document.querySelectorAll('#rows .row:not([hidden])').length === {count}")
    return rows_of(page)


def test_an_empty_server_shows_how_to_begin(page: Page, server: ServerProcess) -> None:
    page.open(f"{server.url}/")
    page.wait_for("!document.getElementById('empty').hidden")
    commands = page.evaluate("document.getElementById('empty-commands').textContent")
    assert f"export SYNCLINE_URL={server.url}" in commands
    assert "syncline add notes" in commands
    # The version comes with WELCOME over the socket, the list of stores over HTTP: either may be first.
    page.wait_for("document.getElementById('version').textContent")


def test_a_record_added_over_http_appears_as_it_was_written(page: Page, server: ServerProcess) -> None:
    server.create("notes")
    open_store(page, server, "notes")
    value = '{"price": 2.50, "id": 9007199254740993123, "e": 1E5, "s": "\\u00e9 \\"q\\" <b>"}'
    server.add("notes", "k1", value)
    assert wait_for_rows(page, 1) == [["ADD", "1", "k1", value]]
    page.click(".row .line")
    pretty = page.wait_for("document.querySelector('.pretty')?.textContent")
    assert pretty == ('{\n  "price": 2.50,\n  "id": 9007199254740993123,\n  "e": 1E5,\n  "s": "\\u00e9 \\"q\\" <b>"\n}')
    server.delete("notes", "k1")
    assert wait_for_rows(page, 2)[1] == ["DELETE", "2", "k1", "takes away the record of seq 1"]
    page.wait_for("document.getElementById('fact-count').textContent === '0'")


def test_the_tail_goes_on_after_a_server_restart(page: Page, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'syncline.db'}") as server:
        server.create("notes")
        server.add("notes", "before", "1")
        open_store(page, server, "notes")
        wait_for_rows(page, 1)
        server.stop()
        page.wait_for("document.getElementById('pill-text').textContent === 'Offline'")
        assert page.evaluate("document.getElementById('banner').hidden") is False
        server.start()
        server.add("notes", "while away", "2")
        wait_for_rows(page, 2)
        wait_until_live(page)
        server.add("notes", "after", "3")
        wait_for_rows(page, 3)
    assert [row[1:3] for row in rows_of(page)] == [["1", "before"], ["2", "while away"], ["3", "after"]]
    # That the server was away is in the browser's log, and nothing else.
    page.complaints[:] = [text for text in page.complaints if "ERR_CONNECTION_REFUSED" not in text]
    page.complaints[:] = [text for text in page.complaints if "503" not in text and "ERR_CONNECTION_RESET" not in text]


def test_data_that_looks_like_markup_stays_text(page: Page, server: ServerProcess) -> None:
    server.create("notes")
    key = "<img src=x onerror=alert(1)>/.?#"
    value = json.dumps({"<script>alert(1)</script>": "</pre><script>alert(2)</script>"})
    server.add("notes", key, value)
    open_store(page, server, "notes")
    assert wait_for_rows(page, 1) == [["ADD", "1", key, value]]
    page.click(".row .line")
    page.wait_for("document.querySelector('.pretty') !== null")
    assert page.evaluate("document.querySelectorAll('#rows script, #rows img').length") == 0


def test_store_and_record_are_made_and_deleted_by_hand(page: Page, server: ServerProcess) -> None:
    page.open(f"{server.url}/")
    page.wait_for("!document.getElementById('empty').hidden")
    page.click("#empty-create")
    page.type("my.notes")
    page.press("Enter")
    page.wait_for("document.getElementById('store-name').textContent === 'my.notes'")
    wait_until_live(page)
    page.click("#add-value")
    page.type('{"half": ')
    page.click("#add .primary")
    assert "not JSON" in page.wait_for("document.getElementById('add-answer').textContent")
    page.click("#add-value")
    page.type("0.50}")
    page.click("#add-key")
    page.type("a key/with slash")
    page.press("Enter")
    assert wait_for_rows(page, 1) == [["ADD", "1", "a key/with slash", '{"half": 0.50}']]
    page.click(".row .line")
    page.click(".details .delete")
    assert page.wait_for("document.querySelector('.details .delete.is-armed')?.textContent") == "Really delete?"
    assert len(rows_of(page)) == 1
    page.click(".details .delete")
    assert wait_for_rows(page, 2)[1][0] == "DELETE"
    assert page.evaluate("document.querySelector('.row').classList.contains('is-dead')")


def test_a_name_that_cannot_be_a_store_is_explained_beside_the_field(page: Page, server: ServerProcess) -> None:
    page.open(f"{server.url}/")
    page.wait_for("!document.getElementById('empty').hidden")
    page.click("#create-open")
    page.type("no good!")
    page.press("Enter")
    assert "no good!" in page.wait_for("document.getElementById('create-error').textContent")
    # The browser itself logs every answer of 400.
    assert [text for text in page.complaints if "400" not in text] == []
    page.complaints.clear()


def test_pause_filter_and_choice_work_from_the_keyboard(page: Page, server: ServerProcess) -> None:
    for store in ("alpha", "beta"):
        server.create(store)
    for number in range(1, 6):
        server.add("alpha", f"k{number}", f'"value {number}"')
    open_store(page, server, "alpha")
    wait_for_rows(page, 5)
    page.evaluate("document.activeElement.blur()")
    page.press("/")
    page.type("VALUE 3")
    assert [row[2] for row in wait_for_rows(page, 1)] == ["k3"]
    page.press("Escape")
    wait_for_rows(page, 5)
    page.press("p")
    server.add("alpha", "k6", "6")
    page.wait_for("document.getElementById('pause').textContent === 'Resume · 1'")
    assert len(rows_of(page)) == 5
    page.press("p")
    wait_for_rows(page, 6)
    page.evaluate("document.querySelector('#store-list a').focus()")
    page.press("ArrowDown")
    page.press("Enter")
    page.wait_for("document.getElementById('store-name').textContent === 'beta'")
    wait_until_live(page)
    assert rows_of(page) == []
    assert page.evaluate("location.hash") == "#beta"


def test_rows_are_bounded_and_are_the_newest(page: Page, server: ServerProcess) -> None:
    server.create("many")
    for start in range(0, 3000, 1000):
        ops = [{"op": "ADD", "key": f"k{number}", "value": number} for number in range(start, start + 1000)]
        server.write("many", ops)
    open_store(page, server, "many")
    rows = wait_for_rows(page, 2000)
    page.wait_for("[...document.querySelectorAll('.seq')].at(-1).textContent === '3000'")
    rows = rows_of(page)
    assert [row[1] for row in rows] == [str(seq) for seq in range(1001, 3001)]
    assert "1,000 earlier changes" in page.evaluate("document.getElementById('edge').textContent")


def test_an_unknown_store_in_the_address_is_said_to_be_unknown(page: Page, server: ServerProcess) -> None:
    server.create("notes")
    page.open(f"{server.url}/#nowhere")
    page.wait_for("!document.getElementById('unknown').hidden")
    title = page.evaluate("document.getElementById('unknown-title').textContent")
    assert title == "There is no store “nowhere” here."
    page.click("#store-list a")
    page.wait_for("document.getElementById('store-name').textContent === 'notes'")
    wait_until_live(page)


def test_a_store_that_is_dropped_under_the_page_is_reported(page: Page, server: ServerProcess) -> None:
    server.create("notes")
    open_store(page, server, "notes")
    server.drop("notes")
    page.wait_for("!document.getElementById('unknown').hidden")
    page.click("#unknown-create")
    wait_until_live(page)
    server.add("notes", "k", "1")
    assert wait_for_rows(page, 1)[0][1] == "1"


@pytest.mark.parametrize("width", [390, 900])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_a_narrow_window(page: Page, server: ServerProcess, width: int, *, dark: bool) -> None:
    server.create("notes")
    server.add("notes", "k" * 300, json.dumps({"long": "x" * 3000}))
    page.emulate(width=width, height=700, dark=dark)
    open_store(page, server, "notes")
    wait_for_rows(page, 1)
    page.click(".row .line")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('tail').scrollWidth <= document.getElementById('tail').clientWidth")


def test_the_console_works_under_a_path_prefix(page: Page, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "memory:", prefix="/live/data") as server:
        server.create("notes")
        open_store(page, server, "notes")
        server.add("notes", "k1", "1")
        wait_for_rows(page, 1)


def test_the_page_comes_with_a_strict_policy(server: ServerProcess) -> None:
    policy = server.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in FILES:
        if path.name != "index.html":
            assert server.get(f"/console/{path.name}").status_code == 200, path.name
