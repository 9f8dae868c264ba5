"""Logging in and out, the first administrator and invitations, in a real browser, with a server that plays."""

from typing import Any

import pytest

from syncline_server.accounts.password import PASSWORD_CHARACTERS_MIN

from .chromium import Page
from .fake_accounts import SETUP_CODE, FakeServer

#: What the page says about a new password, and the choice of whoever is invited and has one.
RULE = f"at least {PASSWORD_CHARACTERS_MIN} characters"
HAS_ACCOUNT = "#gate-mode label:last-child"


def text_of(page: Page, element: str) -> str:
    text: str = page.evaluate(f"document.getElementById('{element}')?.textContent ?? ''")
    return text


def wait_for_text(page: Page, element: str, text: str) -> None:
    page.wait_for(f"document.getElementById('{element}')?.textContent.includes({text!r})")


def wait_for_gate(page: Page, purpose: str) -> None:
    page.wait_for(f"document.body?.dataset.gate === '{purpose}'")


def fill(page: Page, user: str, password: str) -> None:
    for name, text in (("user", user), ("password", password)):
        page.click(f"#gate-{name}")
        page.evaluate(f"document.getElementById('gate-{name}').select()")
        page.type(text)


def log_in(page: Page, fake: FakeServer, user: str, fragment: str = "") -> None:
    """Log in at the form, and wait until the page has begun anew."""
    page.open(f"{fake.url}/{fragment}")
    wait_for_gate(page, "login")
    fill(page, user, f"password of {user}")
    page.press("Enter")
    wait_for_text(page, "who-name", user)


def rows(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('#rows .row')].map((row) => row.innerText.split('\\n'))")


def expect_refusals(page: Page, *statuses: int) -> None:
    """Expect what the browser logs by itself about answers with these statuses."""
    page.expected += [f"status of {status}" for status in statuses]


def assert_no_data(page: Page) -> None:
    """Check that the page holds nothing of a store, seen or unseen, and is at the form."""
    wait_for_gate(page, "login")
    text = page.evaluate("document.documentElement.textContent + document.title")
    assert "private" not in text
    assert "notes" not in text.replace(text_of(page, "empty-commands"), "")
    assert page.evaluate("document.querySelectorAll('#rows > *, #store-list > *, dialog').length") == 0


@pytest.fixture
def shared(fake: FakeServer) -> FakeServer:
    """A server with users and one store that is nobody else's business."""
    fake.add_user("ada", admin=True)
    fake.add_user("bob")
    fake.add_store("notes", {"key": "k", "value": "private", "by": "bob"})
    return fake


def test_whoever_is_not_logged_in_sees_a_form_and_no_store(page: Page, shared: FakeServer) -> None:
    page.open(f"{shared.url}/#notes")
    assert_no_data(page)
    assert shared.socket_users() == []
    assert page.evaluate("document.activeElement.id") == "gate-user"
    assert page.evaluate("document.getElementById('gate-oidc').hidden")


def test_a_login_opens_the_store_of_the_address_with_a_cookie_that_scripts_cannot_read(
    page: Page, shared: FakeServer
) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    assert shared.asked("POST", "/v1/login") == [{"user": "bob", "password": "password of bob", "cookie": True}]
    assert shared.socket_users() == ["bob"]
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("document.getElementById('who-admin').hidden")
    assert page.evaluate("document.body.dataset.gate") is None


def test_a_refused_login_says_why_and_what_to_do_and_keeps_the_name(page: Page, shared: FakeServer) -> None:
    page.open(f"{shared.url}/")
    wait_for_gate(page, "login")
    fill(page, "bob", "wrong")
    page.press("Enter")
    wait_for_text(page, "gate-error", "no account has this name and password; hint of login_failed")
    assert page.evaluate("document.getElementById('gate-user').value") == "bob"
    expect_refusals(page, 401)


def test_a_public_store_is_shown_to_everybody_and_the_form_waits_behind_a_button(
    page: Page, shared: FakeServer
) -> None:
    shared.add_store("news", {"key": "k", "value": "public"})
    shared.public.add("news")
    page.open(f"{shared.url}/")
    wait_for_text(page, "store-name", "news")
    assert page.evaluate("document.getElementById('create-open').hidden")
    assert page.evaluate("document.getElementById('share').hidden")
    page.click("#log-in")
    wait_for_gate(page, "login")
    page.click("#gate-cancel")
    page.wait_for("document.body.dataset.gate === undefined")
    assert len(rows(page)) == 1


def test_after_a_logout_the_page_holds_no_data_and_the_socket_is_closed(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    page.click("#who-open")
    page.click("#log-out")
    wait_for_text(page, "gate-notice", "You are logged out.")
    assert_no_data(page)
    assert shared.socket_users() == []
    assert shared.sessions == {}
    assert page.evaluate("location.hash") == ""


@pytest.mark.parametrize("code", [4007, 4503])
def test_credentials_that_end_take_the_data_with_them(page: Page, shared: FakeServer, code: int) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    shared.sessions.clear()
    shared.close_sockets(code, "taken back")
    wait_for_text(page, "gate-notice", "taken back")
    assert_no_data(page)


def test_a_server_that_goes_on_refusing_is_not_asked_in_a_circle(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    for _ in range(2):
        page.wait_for("!globalThis.isOld && document.querySelectorAll('#rows .row').length === 1")
        page.evaluate("globalThis.isOld = true")
        shared.close_sockets(4503, "not you")
    # He is logged in as far as the cookie goes, and the socket is refused all the same.
    assert_no_data(page)
    wait_for_text(page, "gate-notice", "not you")


def test_an_answer_that_nobody_is_logged_in_ends_the_page_too(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "ada", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    shared.sessions.clear()
    page.evaluate("location.hash = '#/users'")
    wait_for_text(page, "gate-notice", "nobody is logged in")
    assert_no_data(page)
    expect_refusals(page, 401)


def test_a_hint_comes_before_the_session_ends_and_leads_to_the_form(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    assert page.evaluate("document.getElementById('ending').hidden")
    shared.say(type="EXPIRING", expires_ms=4_000_000_000_000)
    wait_for_text(page, "ending-text", "Your session ends")
    page.click("#ending-log-in")
    wait_for_gate(page, "login")
    assert page.evaluate("document.getElementById('gate-user').value") == "bob"


def test_a_login_in_one_tab_reaches_the_others(browser: Any, page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    other = browser.page()
    other.open(f"{shared.url}/#notes")
    wait_for_text(other, "who-name", "bob")
    # The first tab is in the background now, where the browser takes its time with clicks of a mouse.
    page.evaluate("document.getElementById('log-out').click()")
    wait_for_gate(other, "login")
    assert other.complaints == []
    wait_for_gate(page, "login")


def test_the_password_is_changed_and_the_session_goes_on(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    page.click("#who-open")
    page.click("#who-password")
    page.wait_for(f"document.querySelector('.sheet')?.textContent.includes('{RULE}')")
    page.evaluate("document.querySelectorAll('.sheet .field')[1].focus()")
    page.type("wrong")
    page.evaluate("document.querySelectorAll('.sheet .field')[2].focus()")
    page.type("a new password")
    page.press("Enter")
    page.wait_for(
        "document.querySelector('.sheet .error').textContent === 'this is not the password; hint of login_failed'"
    )
    page.evaluate(
        "(() => { const field = document.querySelectorAll('.sheet .field')[1]; field.focus(); field.select(); })()"
    )
    page.type("password of bob")
    page.press("Enter")
    page.wait_for(
        "document.querySelector('.sheet') === null && document.getElementById('who-name')?.textContent === 'bob'"
    )
    assert shared.passwords["bob"] == "a new password"
    expect_refusals(page, 401)


def test_the_menu_opens_and_closes_from_the_keyboard(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "ada", "#notes")
    page.evaluate("document.getElementById('who-open').focus()")
    page.press("Enter")
    page.wait_for("!document.getElementById('who-menu').hidden")
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "who-admin"
    page.press("Escape")
    page.wait_for("document.getElementById('who-menu').hidden")
    assert page.evaluate("document.activeElement.id") == "who-open"


# --- codes in the address ---


def test_a_refused_login_at_the_provider_is_said_at_the_form_and_leaves_the_address(
    page: Page, shared: FakeServer
) -> None:
    page.open(f"{shared.url}/#login-refused")
    wait_for_gate(page, "login")
    assert page.evaluate("location.href") == f"{shared.url}/"
    sentence = "The login at the provider was refused. Try again, or log in with a password."
    assert text_of(page, "gate-notice") == sentence
    assert page.evaluate("document.getElementById('gate-cancel').hidden")
    fill(page, "bob", "password of bob")
    page.press("Enter")
    wait_for_text(page, "who-name", "bob")


def test_who_is_refused_at_the_provider_keeps_what_he_may_see(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    page.open(f"{shared.url}/?#login-refused")
    wait_for_gate(page, "login")
    page.click("#gate-cancel")
    wait_for_text(page, "store-name", "notes")


def test_a_setup_code_leaves_the_address_and_makes_the_first_administrator(page: Page, fake: FakeServer) -> None:
    page.open(f"{fake.url}/#setup={SETUP_CODE}")
    wait_for_gate(page, "setup")
    assert page.evaluate("location.href") == f"{fake.url}/"
    assert SETUP_CODE not in page.evaluate("JSON.stringify(history.state) + document.documentElement.outerHTML")
    assert page.evaluate("document.getElementById('gate-password').autocomplete") == "new-password"
    assert text_of(page, "gate-title") == "Make the first administrator"
    assert text_of(page, "gate-rule") == RULE
    fill(page, "ada", "a long password")
    page.press("Enter")
    wait_for_text(page, "who-name", "ada")
    body = {"code": SETUP_CODE, "user": "ada", "password": "a long password", "cookie": True}
    assert fake.asked("POST", "/v1/setup") == [body]
    page.wait_for("!document.getElementById('empty').hidden")
    assert "syncline login --user ada" in text_of(page, "empty-commands")


def test_a_setup_code_of_a_rescue_makes_another_administrator_as_there_is_one(page: Page, shared: FakeServer) -> None:
    page.open(f"{shared.url}/#setup={SETUP_CODE}")
    wait_for_gate(page, "setup")
    assert text_of(page, "gate-title") == "Make another administrator"
    assert "no administrator" not in text_of(page, "gate-text")
    assert page.evaluate("document.title") == "Make another administrator · Syncline"


def test_a_setup_code_that_does_not_hold_is_refused_with_the_servers_words(page: Page, fake: FakeServer) -> None:
    page.open(f"{fake.url}/#setup=wrong")
    wait_for_gate(page, "setup")
    fill(page, "ada", "a long password")
    page.press("Enter")
    wait_for_text(page, "gate-error", "the code does not hold; hint of forbidden")
    assert fake.users == {}
    expect_refusals(page, 403)


def test_a_server_without_an_administrator_says_where_the_link_is(page: Page, fake: FakeServer) -> None:
    page.open(f"{fake.url}/")
    wait_for_gate(page, "login")
    assert "printed a link" in text_of(page, "gate-notice")


@pytest.fixture
def code(shared: FakeServer) -> str:
    shared.invitations["i_1"] = {"id": "i_1", "store": "notes", "role": "reader", "by": "ada"}
    shared.codes["syncline_i_one"] = "i_1"
    return "syncline_i_one"


def test_who_is_logged_in_joins_with_one_click_and_no_sooner(page: Page, shared: FakeServer, code: str) -> None:
    log_in(page, shared, "bob")
    page.open(f"{shared.url}/?#invite={code}")
    wait_for_gate(page, "join")
    assert code not in page.evaluate("location.href")
    assert shared.asked("POST", "/v1/invitations/accept") == []
    assert text_of(page, "gate-text").endswith("gives access to a store. You are logged in as bob.")
    page.press("Enter")
    wait_for_text(page, "store-name", "notes")
    assert shared.asked("POST", "/v1/invitations/accept") == [{"code": code}]
    assert page.evaluate("location.hash") == "#notes"


def test_an_invitation_that_comes_into_an_open_page_is_asked_about_there(
    page: Page, shared: FakeServer, code: str
) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    page.evaluate(f"location.hash = '#invite={code}'")
    wait_for_gate(page, "join")
    assert code not in page.evaluate("location.href")


def test_who_is_invited_logs_in_and_joins(page: Page, shared: FakeServer, code: str) -> None:
    page.open(f"{shared.url}/#invite={code}")
    wait_for_gate(page, "join")
    page.click(HAS_ACCOUNT)
    assert text_of(page, "gate-rule") == ""
    fill(page, "bob", "password of bob")
    page.press("Enter")
    wait_for_text(page, "store-name", "notes")
    assert shared.asked("POST", "/v1/invitations/accept") == [{"code": code}]
    assert text_of(page, "who-name") == "bob"


def test_who_is_invited_makes_an_account_and_joins_at_once(page: Page, shared: FakeServer, code: str) -> None:
    page.open(f"{shared.url}/#invite={code}")
    wait_for_gate(page, "join")
    assert "gives access to a store" in text_of(page, "gate-text")
    assert text_of(page, "gate-submit") == "Make an account and join"
    assert text_of(page, "gate-rule") == RULE
    fill(page, "carol", "a long password")
    page.press("Enter")
    wait_for_text(page, "store-name", "notes")
    assert text_of(page, "who-name") == "carol"
    assert [grant["to"] for grant in shared.grants.values()] == ["user:carol"]


def test_an_invitation_that_does_not_hold_is_refused_with_the_servers_words(page: Page, shared: FakeServer) -> None:
    page.open(f"{shared.url}/#invite=syncline_i_old")
    wait_for_gate(page, "join")
    page.click(HAS_ACCOUNT)
    fill(page, "bob", "password of bob")
    page.press("Enter")
    wait_for_text(page, "gate-error", "this invitation cannot be used; hint of invitation_invalid")
    page.click("#gate-cancel")
    wait_for_text(page, "store-name", "notes")
    assert text_of(page, "who-name") == "bob"
    expect_refusals(page, 404)


def test_an_invitation_survives_a_login_that_is_refused_elsewhere(page: Page, shared: FakeServer, code: str) -> None:
    page.open(f"{shared.url}/")
    wait_for_gate(page, "login")
    page.evaluate(f"sessionStorage.setItem('syncline.invite', '{code}')")
    page.open(f"{shared.url}/?#login-refused")
    wait_for_gate(page, "join")
    assert "was refused" in text_of(page, "gate-notice")
    assert page.evaluate("location.hash") == ""


def test_an_invitation_survives_the_way_over_another_login(page: Page, shared: FakeServer, code: str) -> None:
    shared.oidc = True
    page.open(f"{shared.url}/#invite={code}")
    wait_for_gate(page, "join")
    link = page.evaluate("document.getElementById('gate-oidc').href")
    assert link == f"{shared.url}/v1/oidc/login?next=/"
    page.evaluate("document.getElementById('gate-oidc').addEventListener('click', (event) => event.preventDefault())")
    page.click("#gate-oidc")
    page.open(f"{shared.url}/?back")
    wait_for_gate(page, "join")
    assert page.evaluate("sessionStorage.length") == 0


# --- who made a change ---


def test_rows_say_who_made_the_change_as_text_and_are_found_by_it(page: Page, shared: FakeServer) -> None:
    author = "<img src=x onerror=alert(1)>"
    shared.add_store("notes", {"key": "k1", "value": 1, "by": author}, {"key": "k2", "value": 2})
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 2")
    assert page.evaluate("[...document.querySelectorAll('#rows .by')].map((cell) => cell.textContent)") == [author, ""]
    assert page.evaluate("getComputedStyle(document.querySelector('.columns .by')).display") != "none"
    page.click(".row .line")
    page.wait_for(f"document.querySelector('.details-facts').textContent.endsWith({'by ' + author!r})")
    page.click("#filter")
    page.type("onerror")
    page.wait_for("document.querySelectorAll('#rows .row:not([hidden])').length === 1")


def test_there_is_no_place_for_authors_where_nobody_logs_in(page: Page, shared: FakeServer) -> None:
    shared.add_store("notes", {"key": "k", "value": 1})
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    assert page.evaluate("getComputedStyle(document.querySelector('.columns .by')).display") == "none"


def test_a_view_that_changes_is_read_anew(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    shared.add_store("notes", {"key": "other", "value": 1})
    shared.say(type="ENDED", id=1, feed="f1", reason="view_changed", at="i:1")
    page.wait_for("document.querySelector('#rows .key')?.textContent === 'other'")
    assert "private" not in page.evaluate("document.documentElement.textContent")


def test_a_store_that_may_not_be_seen_any_more_leaves_the_page(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    shared.say(type="ENDED", id=1, feed="f1", reason="forbidden", at="i:1")
    page.wait_for("!document.getElementById('unknown').hidden")
    assert text_of(page, "unknown-title") == "There is no store “notes” here, or nobody has shared it with you."
    assert "private" not in page.evaluate("document.documentElement.textContent")


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("reader", "This store is empty. You may read it: what others add appears here."),
        ("writer", "This store is empty. What you add below, or from any client, appears here."),
    ],
)
def test_an_empty_store_says_what_its_reader_may_do(page: Page, shared: FakeServer, role: str, text: str) -> None:
    shared.add_store("new")
    shared.roles["new"] = role
    log_in(page, shared, "bob", "#new")
    wait_for_text(page, "waiting-text", text)
    assert page.evaluate("document.getElementById('composer').hidden") == (role == "reader")


def test_a_store_that_is_not_there_is_created_by_who_may_create_stores(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#plans")
    page.wait_for("!document.getElementById('unknown').hidden")
    assert text_of(page, "unknown-title") == "There is no store “plans” here, or nobody has shared it with you."
    assert text_of(page, "unknown-text") == "Ask its owner to share it, or create it."
    page.click("#unknown-create")
    wait_for_text(page, "unknown-error", "plans")
    page.evaluate("globalThis.listed = performance.getEntriesByType('resource').length")
    page.wait_for("performance.getEntriesByType('resource').length > globalThis.listed")
    assert text_of(page, "unknown-error") != ""
    expect_refusals(page, 403)


def test_whoever_is_not_logged_in_is_not_offered_to_create_what_he_cannot_see(page: Page, shared: FakeServer) -> None:
    shared.add_store("news", {"key": "k", "value": "public"})
    shared.public.add("news")
    page.open(f"{shared.url}/#notes")
    page.wait_for("!document.getElementById('unknown').hidden")
    assert text_of(page, "unknown-title") == "There is no store “notes” here, or nobody has shared it with you."
    assert text_of(page, "unknown-text") == "Log in, or ask its owner to share it."
    assert page.evaluate("document.getElementById('unknown-create').hidden")
