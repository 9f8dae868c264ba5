"""The page at `/` and its files."""

from importlib.resources import files

from tests.support.http import HttpApp

MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


async def test_the_page_is_at_the_root(app: HttpApp) -> None:
    page = await app.ask("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<!doctype html>" in page.content[:100].lower()


async def test_every_file_is_served_as_what_it_is(app: HttpApp) -> None:
    served = 0
    for file in files("syncline_server").joinpath("console").iterdir():
        if file.name.rpartition(".")[2] in MEDIA_TYPES:
            answer = await app.ask("GET", f"/console/{file.name}")
            assert answer.content == file.read_bytes()
            assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[file.name.rpartition(".")[2]]
            served += 1
    assert served >= 3


async def test_nothing_but_its_own_files_may_run_in_the_page(app: HttpApp) -> None:
    headers = (await app.ask("GET", "/")).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["Referrer-Policy"] == "no-referrer"


async def test_a_browser_that_has_a_file_is_not_sent_it_again(app: HttpApp) -> None:
    page = await app.ask("GET", "/")
    assert page.headers["Cache-Control"] == "no-cache"
    again = await app.ask("GET", "/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.content) == (304, b"")


async def test_there_is_no_way_to_other_files(app: HttpApp) -> None:
    for path in ("/console/", "/console/..%2Fapp.py", "/console/%2e%2e/app.py", "/console/index.html", "/app.py"):
        (await app.ask("GET", path)).refused(404, "not_found")
