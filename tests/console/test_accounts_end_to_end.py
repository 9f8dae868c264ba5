"""The whole way of several people through the console, in a real browser, with the real server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .chromium import Page
from .server import ServerProcess
from .test_accounts import expect_refusals, fill, text_of, wait_for_gate, wait_for_text
from .test_sharing import ACCESS, LINKS, press_button, set_field, wait_for_texts

PASSWORD = "several words of a password"


@pytest.fixture
def real(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, "memory:", auth="accounts") as started:
        yield started


def set_up(page: Page, real: ServerProcess) -> None:
    """Make the administrator `ada` with the link that the server has printed."""
    page.open(real.setup_link())
    wait_for_gate(page, "setup")
    fill(page, "ada", PASSWORD)
    page.press("Enter")
    wait_for_text(page, "who-name", "ada")


def create_store(page: Page, name: str, key: str, value: str) -> None:
    """Make a store with one record by hand."""
    page.wait_for("!document.getElementById('loading') || document.getElementById('loading').hidden")
    page.click("#create-open")
    page.type(name)
    page.press("Enter")
    wait_for_text(page, "pill-text", "Live")
    add_record(page, key, value)


def add_record(page: Page, key: str, value: str) -> None:
    page.click("#add-key")
    page.type(key)
    page.click("#add-value")
    page.type(value)
    page.click("#add .primary")
    wait_for_texts(page, "#rows .key", key)


def make_link(page: Page, role: str) -> str:
    """Make an invitation to the store that is shown; return its link."""
    page.click("#share")
    page.wait_for("document.querySelector('.sheet .entries > *') !== null")
    page.click(f"{LINKS} summary")
    set_field(page, LINKS, "Role", role)
    set_field(page, LINKS, "Good for so many people", "1")
    press_button(page, f"{LINKS} form", "Make a link")
    page.wait_for(f"document.querySelector('{LINKS} .made .field') !== null")
    link: str = page.evaluate(f"document.querySelector('{LINKS} .made .field').value")
    press_button(page, ".sheet", "Close")
    return link


def log_out(page: Page) -> None:
    page.click("#who-open")
    page.click("#log-out")
    wait_for_gate(page, "login")


def log_in(page: Page, user: str) -> None:
    fill(page, user, PASSWORD)
    page.press("Enter")
    wait_for_text(page, "who-name", user)


def test_a_store_is_shared_by_a_link_written_to_by_its_guest_and_taken_back(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    create_store(page, "plans", "a", '"of ada"')
    link = make_link(page, "writer")
    log_out(page)

    page.open(link)
    wait_for_gate(page, "join")
    fill(page, "bob", PASSWORD)
    page.press("Enter")
    wait_for_text(page, "store-name", "plans")
    wait_for_text(page, "pill-text", "Live")
    add_record(page, "b", '"of bob"')
    assert page.evaluate("[...document.querySelectorAll('#rows .by')].map((each) => each.textContent)") == [
        "ada",
        "bob",
    ]
    log_out(page)

    log_in(page, "ada")
    wait_for_text(page, "store-name", "plans")
    page.click("#share")
    wait_for_texts(page, f"{ACCESS} .entry-text", "bob may read all records and add and delete records.")
    press_button(page, f"{ACCESS} .entry:last-child", "Remove")
    press_button(page, f"{ACCESS} .entry:last-child", "Really remove?")
    page.wait_for(f"!document.querySelector('{ACCESS}').textContent.includes('bob')")
    press_button(page, ".sheet", "Close")
    log_out(page)

    log_in(page, "bob")
    page.wait_for("!document.getElementById('empty').hidden")
    assert "plans" not in page.evaluate("document.documentElement.textContent")


def test_who_is_disabled_while_he_watches_loses_the_page_at_once(
    browser: object, page: Page, real: ServerProcess, tmp_path: Path
) -> None:
    set_up(page, real)
    create_store(page, "plans", "a", '"secret plan"')
    link = make_link(page, "reader")
    admin_cookie = page.cookies()
    page.forget_cookies()
    page.open(f"{real.url}/")
    wait_for_gate(page, "login")
    page.open(link)
    wait_for_gate(page, "join")
    fill(page, "bob", PASSWORD)
    page.press("Enter")
    wait_for_texts(page, "#rows .value", "secret plan")
    answer = real.request("PUT", "/v1/users/bob", {"disabled": True}, cookies=admin_cookie)
    assert answer.status_code == 200
    wait_for_gate(page, "login")
    wait_for_text(page, "gate-notice", "You are logged out")
    assert "secret plan" not in page.evaluate("document.documentElement.textContent")
    fill(page, "bob", PASSWORD)
    page.press("Enter")
    wait_for_text(page, "gate-error", "the user and the password do not belong together")
    expect_refusals(page, 401)


def test_a_narrowed_grant_takes_what_it_does_not_show_from_the_open_page(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    create_store(page, "plans", "a/1", '"seen"')
    add_record(page, "b/1", '"unseen"')
    link = make_link(page, "reader")
    admin_cookie = page.cookies()
    page.forget_cookies()
    page.open(f"{real.url}/")
    wait_for_gate(page, "login")
    page.open(link)
    wait_for_gate(page, "join")
    fill(page, "bob", PASSWORD)
    page.press("Enter")
    page.wait_for("document.querySelectorAll('#rows .row').length === 2")
    grant = {"to": "user:bob", "store": "plans", "role": "reader", "limits": {"read_prefix": "a/"}}
    assert real.request("POST", "/v1/grants", grant, cookies=admin_cookie).status_code == 200
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    wait_for_text(page, "pill-text", "Live")
    assert "unseen" not in page.evaluate("document.documentElement.textContent")
    assert text_of(page, "fact-count") == "1"


def test_the_pages_of_an_administrator_work_with_the_real_routes(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    page.evaluate("location.hash = '#/users'")
    page.wait_for("document.querySelector('#pages .entry') !== null")
    page.click("#pages summary")
    set_field(page, "#pages", "Name", "carol")
    set_field(page, "#pages", "Password", PASSWORD)
    press_button(page, "#pages form", "Add")
    wait_for_texts(page, "#pages .entry strong", "carol")
    press_button(page, "#pages .entry:nth-child(2)", "Disable")
    wait_for_texts(page, "#pages .badge", "disabled")
    page.evaluate("location.hash = '#/groups'")
    wait_for_texts(page, "#pages .hint", "There are no groups.")
    page.click("#pages summary")
    set_field(page, "#pages", "Name", "team")
    press_button(page, "#pages .adder form", "Make")
    wait_for_texts(page, "#pages .entry strong", "team")
    page.evaluate("document.querySelector('#pages .entry .field').value = 'carol'")
    press_button(page, "#pages .entry form", "Add")
    wait_for_texts(page, "#pages .members .badge", "carol")
    page.click("#pages .members button")
    wait_for_texts(page, "#pages .members .hint", "nobody")
    page.evaluate("location.hash = '#/tokens'")
    wait_for_texts(page, "#pages .badge", "session")
    page.click("#pages .adder summary")
    set_field(page, "#pages", "Title", "backups")
    press_button(page, "#pages .adder form", "Make the token")
    page.wait_for("document.querySelector('#pages .made .field') !== null")
    secret = page.evaluate("document.querySelector('#pages .made .field').value")
    assert re.fullmatch(r"syncline_p_[A-Za-z0-9_-]{43}", secret)
    page.evaluate("location.hash = '#/audit'")
    wait_for_texts(page, "#pages .entry strong", "token.add")
    actions = page.evaluate("[...document.querySelectorAll('#pages .entry strong')].map((each) => each.textContent)")
    assert actions[0] == "token.add"
    assert {"setup.done", "user.add", "user.change", "group.add", "group.change"} <= set(actions)


def test_a_public_store_is_read_without_a_login(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    create_store(page, "news", "k", '"for all"')
    page.click("#share")
    page.wait_for("document.querySelector('.sheet .entries > *') !== null")
    page.click(f"{ACCESS} summary")
    set_field(page, ACCESS, "To", "everyone")
    press_button(page, f"{ACCESS} form", "Give access")
    wait_for_texts(page, f"{ACCESS} .entry-text", "Everyone may read all records.")
    press_button(page, ".sheet", "Close")
    page.click("#who-open")
    page.click("#log-out")
    page.wait_for("document.getElementById('log-in')?.hidden === false")
    wait_for_text(page, "store-name", "news")
    wait_for_texts(page, "#rows .value", "for all")
    assert page.evaluate("document.getElementById('who').hidden")


def test_a_changed_password_ends_other_sessions_and_not_this_one(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    other = real.request("POST", "/v1/login", {"user": "ada", "password": PASSWORD}).json()["token"]
    page.click("#who-open")
    page.click("#who-password")
    set_field(page, ".sheet", "Password now", PASSWORD)
    set_field(page, ".sheet", "New password", f"{PASSWORD} more")
    press_button(page, ".sheet form", "Change it")
    page.wait_for(
        "document.querySelector('.sheet') === null && document.getElementById('who-name')?.textContent === 'ada'"
    )
    assert real.request("GET", "/v1/users", token=other).status_code == 401


def test_a_page_of_another_origin_gets_nothing_by_the_cookie(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    cookies = page.cookies()
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:1"}):
        answer = real.request("POST", "/v1/tokens", {"title": "x"}, cookies=cookies, headers=headers)
        assert answer.status_code in (401, 403)


def test_who_reads_a_store_is_offered_neither_to_share_it_nor_to_add_to_it(page: Page, real: ServerProcess) -> None:
    set_up(page, real)
    create_store(page, "plans", "a", "1")
    link = make_link(page, "reader")
    log_out(page)
    page.open(link)
    wait_for_gate(page, "join")
    fill(page, "bob", PASSWORD)
    page.press("Enter")
    wait_for_text(page, "store-name", "plans")
    assert page.evaluate("document.getElementById('share').hidden")
    assert page.evaluate("document.getElementById('composer').hidden")


def test_a_session_that_ends_is_announced_and_takes_the_data_with_it(page: Page, tmp_path: Path) -> None:
    # About ten seconds.
    with ServerProcess(tmp_path, "memory:", auth="accounts", session_days="0.00012") as real:
        set_up(page, real)
        create_store(page, "plans", "a", '"secret plan"')
        wait_for_text(page, "ending-text", "Your session ends")
        wait_for_gate(page, "login")
        wait_for_text(page, "gate-notice", "You are logged out")
        assert "secret plan" not in page.evaluate("document.documentElement.textContent")
        log_in(page, "ada")
        wait_for_texts(page, "#rows .value", "secret plan")
    expect_refusals(page, 401)
