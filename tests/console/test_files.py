"""What the console's files may contain: nothing inline, nothing from elsewhere, no data made into markup."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "server" / "syncline_server" / "console"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
TEXT = {path.name: path.read_text() for path in FILES}
#: What a page on a slow line loads once, uncompressed, and all of the console with what is loaded when it is asked for.
FIRST_SIZE_MAX = 128 * 1024
SIZE_MAX = 168 * 1024
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.mark.parametrize("name", [name for name in TEXT if name.endswith((".html", ".svg"))])
def test_markup_has_no_inline_script_or_style(name: str) -> None:
    text = TEXT[name]
    assert not re.search(r"<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:", text, re.IGNORECASE)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert not re.search(r"<script[^>]*>[^<]+</script>", text)


@pytest.mark.parametrize("name", [name for name in TEXT if name.endswith(".js")])
def test_scripts_make_no_markup_or_code_of_data(name: str) -> None:
    found = re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(\"style",
        TEXT[name],
    )
    assert found is None, found


@pytest.mark.parametrize("name", TEXT)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    urls = re.findall(r"(?:https?:)?//[a-z0-9][^\s\"'`)>]*", re.sub(r"(?m)^\s*//.*$|\s// .*$", "", TEXT[name]))
    assert [url for url in urls if url != SVG_NAMESPACE and not url.startswith("http://127.0.0.1")] == []


def test_every_reference_is_relative_and_leads_to_a_file() -> None:
    references = [
        target
        for target in re.findall(r"(?:src|href)=\"([^\"]+)\"", TEXT["index.html"])
        if not target.startswith(("#", "v1/"))
    ]
    assert references
    for target in references:
        assert not target.startswith("/")
        assert (FOLDER / target.removeprefix("console/")).is_file(), target
    for name, text in TEXT.items():
        if name.endswith(".js"):
            for target in re.findall(r"(?:from |import\()\"([^\"]+)\"", text):
                assert (FOLDER / target).is_file(), f"{name}: {target}"


def test_every_element_that_scripts_ask_for_by_id_is_in_the_page() -> None:
    ids = re.findall(r"\sid=\"([^\"]+)\"", TEXT["index.html"])
    assert len(ids) == len(set(ids))
    asked = {name for text in TEXT.values() for name in re.findall(r"(?<!\w)\$\(\"([^\"]+)\"\)", text)}
    assert asked
    assert asked <= set(ids)
    made_by_scripts = {"pages-title"}
    for attribute in ("for", "aria-controls", "aria-labelledby", "aria-describedby"):
        named = re.findall(rf"\s{attribute}=\"([^\"]+)\"", TEXT["index.html"])
        assert {name for names in named for name in names.split()} <= set(ids) | made_by_scripts


def loaded_with(name: str, seen: set[str]) -> set[str]:
    """Return the files that a script makes the browser load before it runs."""
    if name not in seen:
        seen.add(name)
        for target in re.findall(r"from \"\./([^\"]+)\"", TEXT[name]):
            loaded_with(target, seen)
    return seen


def test_the_console_stays_small() -> None:
    first = [name for name in TEXT if not name.endswith(".js")] + sorted(loaded_with("session.js", set()))
    assert sum(len(TEXT[name].encode()) for name in first) <= FIRST_SIZE_MAX
    assert sum(path.stat().st_size for path in FILES) <= SIZE_MAX
