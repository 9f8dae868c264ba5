"""Sharing a store and the pages of administrators, in a real browser, with a server that plays."""

import json
from typing import Any

import pytest

from .chromium import Page
from .fake_accounts import FakeServer
from .test_accounts import RULE, expect_refusals, log_in

#: Runs in the page: find a control by what its label says, below an element.
_FIND = """(scope, label) => [...document.querySelectorAll(scope + ' .labelled')].find(
    (each) => each.querySelector('.label').textContent === label).querySelector('input, select')"""

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
#: With what programs introduce themselves, and what people call them.
AGENTS = {
    f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} HeadlessChrome/141.0.0.0 Safari/537.36": "Chromium on Linux",
    f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36": "Chrome on Android",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36 Edg/141.0": "Edge on Windows",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": "Firefox on Linux",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1": (
        "Safari on iOS"
    ),
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15": (
        "Safari on macOS"
    ),
    "Mozilla/5.0 of nobody": "Mozilla/5.0 of nobody",
    "syncline-cli/0.1": "syncline-cli/0.1",
    "": "A login",
}


def set_field(page: Page, scope: str, label: str, value: str) -> None:
    """Fill in a field or choose an option, as a person does who has found it by its label."""
    page.evaluate(
        f"(() => {{ const field = ({_FIND})({json.dumps(scope)}, {json.dumps(label)});"
        f" field.value = {json.dumps(value)};"
        " field.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def press_button(page: Page, scope: str, text: str) -> None:
    """Press the first button below an element that says this."""
    page.evaluate(
        f"[...document.querySelectorAll({json.dumps(scope + ' button')})].find("
        f"(each) => each.textContent === {json.dumps(text)}).click()"
    )


def texts(page: Page, selector: str) -> Any:
    return page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)")


def wait_for_texts(page: Page, selector: str, part: str) -> None:
    query = f"[...document.querySelectorAll({json.dumps(selector)})]"
    page.wait_for(f"{query}.some((each) => each.textContent.includes({json.dumps(part)}))")


@pytest.fixture
def shared(fake: FakeServer) -> FakeServer:
    fake.add_user("ada", admin=True)
    fake.add_user("bob")
    fake.add_store("notes", {"key": "k", "value": 1})
    return fake


@pytest.fixture
def sheet(page: Page, shared: FakeServer) -> str:
    """Open the sheet in which `notes` is shared; returns how it is selected."""
    log_in(page, shared, "ada", "#notes")
    page.wait_for("document.getElementById('store-name')?.textContent === 'notes'")
    page.click("#share")
    page.wait_for("document.querySelectorAll('.sheet .entries .hint').length === 2")
    return ".sheet"


ACCESS = ".sheet .section:nth-child(1)"
LINKS = ".sheet .section:nth-child(2)"


def test_access_is_given_with_limits_that_a_sentence_says(page: Page, shared: FakeServer, sheet: str) -> None:
    page.click(f"{ACCESS} summary")
    set_field(page, ACCESS, "Name", "bob")
    set_field(page, ACCESS, "Role", "writer")
    set_field(page, ACCESS, "Writes keys that begin with", "a/")
    set_field(page, ACCESS, "Deletes", "own")
    set_field(page, ACCESS, "Records at most", "1000")
    sentence = (
        "bob may read all records, add records whose keys begin with “a/”, delete only their own, and keep at most "
        "1,000 records."
    )
    assert texts(page, f"{ACCESS} .sentence") == [sentence]
    press_button(page, f"{ACCESS} form", "Give access")
    wait_for_texts(page, f"{ACCESS} .entry-text", sentence)
    limits = {"key_prefix": "a/", "own_only": True, "records_max": 1000}
    body = {"to": "user:bob", "store": "notes", "role": "writer", "limits": limits}
    assert shared.asked("POST", "/v1/grants") == [body]


def test_a_grant_is_changed_by_one_that_takes_its_place(page: Page, shared: FakeServer, sheet: str) -> None:
    limits = {"read_prefix": "a/", "add_only": True, "bytes_max": 1500, "writes_per_s": 2.5}
    given = {"to": "group:team", "store": "notes", "role": "writer", "limits": limits, "authors": False}
    shared.grants["g_1"] = {"id": "g_1", "by": "ada", "created_ms": 0, **given, "expires_ms": 4_000_000_020_000}
    press_button(page, sheet, "Close")
    page.click("#share")
    wait_for_texts(page, f"{ACCESS} .entry-text", "The members of team may read records whose keys begin with “a/”,")
    wait_for_texts(page, f"{ACCESS} .entry-text", "keep at most 1.5 kB, and write at most 2.5 times a second")
    press_button(page, ACCESS, "Change")
    set_field(page, ACCESS, "Deletes", "all")
    press_button(page, f"{ACCESS} form", "Give access")
    wait_for_texts(page, f"{ACCESS} .entry-text", "add and delete records")
    del limits["add_only"]
    # The field for the end has minutes, so the grant ends on one.
    body = {**given, "limits": limits, "expires_ms": 4_000_000_020_000}
    assert shared.asked("POST", "/v1/grants") == [body]


@pytest.mark.parametrize(
    ("term", "told"), [("r1", "r1"), ("5", '"5"'), (5, "5"), (None, "null"), (True, "true"), (" x", " x")]
)
def test_what_an_index_shows_stays_the_limit_of_a_grant_that_is_changed(
    page: Page, shared: FakeServer, sheet: str, term: object, told: str
) -> None:
    limits: dict[str, object] = {"read_prefix": "a/", "read_where": {"index": "room", "eq": term}}
    given = {"to": "group:team", "store": "notes", "role": "reader", "limits": limits}
    shared.grants["g_1"] = {"id": "g_1", "by": "ada", "created_ms": 0, **given}
    press_button(page, sheet, "Close")
    page.click("#share")
    sentence = f"read records whose keys begin with “a/” and that have {told} in the index “room”."
    wait_for_texts(page, f"{ACCESS} .entry-text", sentence)
    press_button(page, ACCESS, "Change")
    set_field(page, ACCESS, "Role", "writer")
    assert texts(page, f"{ACCESS} .sentence") == [
        "A writer sees by keys: what an index finds is for readers only.",
    ]
    set_field(page, ACCESS, "Role", "reader")
    set_field(page, ACCESS, "Reads keys that begin with", "")
    press_button(page, f"{ACCESS} form", "Give access")
    wait_for_texts(page, f"{ACCESS} .entry-text", f"may read records that have {told} in the index “room”.")
    del limits["read_prefix"]
    assert shared.asked("POST", "/v1/grants") == [given]


def test_a_grant_is_removed_after_a_second_click(page: Page, shared: FakeServer, sheet: str) -> None:
    shared.grants["g_1"] = {"id": "g_1", "to": "everyone", "store": "no*", "role": "reader", "by": None}
    press_button(page, sheet, "Close")
    page.click("#share")
    wait_for_texts(page, f"{ACCESS} .entry-text", "Everyone may read all records, in all stores that begin with “no”.")
    press_button(page, ACCESS, "Remove")
    assert list(shared.grants) == ["g_1"]
    press_button(page, ACCESS, "Really remove?")
    wait_for_texts(page, f"{ACCESS} .hint", "Nobody but administrators.")
    assert shared.grants == {}


def open_sheet(page: Page, shared: FakeServer, user: str) -> None:
    log_in(page, shared, user, "#notes")
    page.wait_for("document.getElementById('store-name')?.textContent === 'notes'")
    page.click("#share")
    page.wait_for(f"document.querySelector('{ACCESS} .entry') !== null")


def test_what_opens_more_than_the_store_is_shown_to_its_owner_and_not_offered_to_change(
    page: Page, shared: FakeServer
) -> None:
    shared.add_grant("user:bob", "notes", "owner")
    shared.add_grant("group:team", "not*", "writer")
    shared.add_grant("everyone", "*", "reader")
    shared.add_grant("everyone", "other*", "reader")
    open_sheet(page, shared, "bob")
    _, team, everyone = texts(page, f"{ACCESS} .entry-text")
    assert "records, in all stores that begin with “not”. Granted by ada. An administrator can change it." in team
    assert everyone.startswith("Everyone may read all records, in all stores.")
    counts = "[...document.querySelectorAll('.sheet .entry')].map((each) => each.querySelectorAll('button').length)"
    assert page.evaluate(counts) == [2, 0, 0]


def test_who_owns_all_stores_that_begin_so_changes_who_may_use_them(page: Page, shared: FakeServer) -> None:
    shared.add_grant("user:bob", "no*", "owner")
    shared.add_grant("group:team", "not*", "writer")
    open_sheet(page, shared, "bob")
    press_button(page, f"{ACCESS} .entry:last-child", "Change")
    set_field(page, ACCESS, "Role", "reader")
    press_button(page, f"{ACCESS} form", "Give access")
    wait_for_texts(page, f"{ACCESS} .entry-text", "The members of team may read all records, in all stores")
    body = {"to": "group:team", "store": "not*", "role": "reader", "limits": {}}
    assert shared.asked("POST", "/v1/grants") == [body]
    # What is given next is for the store of the sheet again.
    page.click(f"{ACCESS} summary")
    set_field(page, ACCESS, "Name", "ada")
    wait_for_texts(page, f"{ACCESS} .sentence", "ada may read all records.")


def test_a_removal_that_the_server_refuses_is_explained_with_its_words(
    page: Page, shared: FakeServer, sheet: str
) -> None:
    shared.add_grant("everyone", "no*", "reader")
    press_button(page, sheet, "Close")
    page.click("#share")
    page.wait_for(f"document.querySelector('{ACCESS} .entry') !== null")
    shared.refuses_removals = True
    press_button(page, ACCESS, "Remove")
    press_button(page, ACCESS, "Really remove?")
    wait_for_texts(page, f"{ACCESS} .error", "this is not yours to take back; hint of forbidden")
    expect_refusals(page, 403)


@pytest.mark.parametrize(
    ("label", "value", "complaint"),
    [
        ("Name", "", "A user has a name."),
        ("Records at most", "1.5", "“Records at most” is a whole number from 0."),
        ("Writes per second at most", "0", "“Writes per second at most” is a number above 0."),
        ("Ends", "2001-01-01T00:00", "The end lies in the past."),
    ],
)
def test_a_field_that_is_not_right_is_explained_before_anything_is_sent(
    page: Page, shared: FakeServer, sheet: str, label: str, value: str, complaint: str
) -> None:
    page.click(f"{ACCESS} summary")
    set_field(page, ACCESS, "Name", "bob")
    set_field(page, ACCESS, "Role", "writer")
    set_field(page, ACCESS, label, value)
    press_button(page, f"{ACCESS} form", "Give access")
    wait_for_texts(page, f"{ACCESS} .error", complaint)
    assert shared.asked("POST", "/v1/grants") == []


def test_a_link_is_made_and_shown_once_with_the_code_behind_the_fragment(
    page: Page, shared: FakeServer, sheet: str
) -> None:
    page.click(f"{LINKS} summary")
    set_field(page, LINKS, "Role", "writer")
    set_field(page, LINKS, "Good for so many people", "3")
    press_button(page, f"{LINKS} form", "Make a link")
    wait_for_texts(
        page, f"{LINKS} .entry-text", "Whoever follows the link may read all records and add and delete records"
    )
    code = next(iter(shared.codes))
    link = f"{shared.url}/#invite={code}"
    assert page.evaluate(f"document.querySelector('{LINKS} .made .field').value") == link
    wait_for_texts(page, f"{LINKS} .entry-text", "used 0 of 3 times, made by ada.")
    press_button(page, sheet, "Close")
    page.click("#share")
    wait_for_texts(page, f"{LINKS} .entry-text", "used 0 of 3 times")
    assert code not in page.evaluate("document.documentElement.outerHTML")
    press_button(page, LINKS, "Remove")
    press_button(page, LINKS, "Really remove?")
    wait_for_texts(page, f"{LINKS} .hint", "No link is open.")


def test_names_that_look_like_markup_stay_text(page: Page, shared: FakeServer, sheet: str) -> None:
    markup = "<img src=x onerror=alert(1)>"
    limits = {"key_prefix": markup, "read_prefix": markup}
    shared.grants["g_1"] = {"id": "g_1", "to": f"user:{markup}", "store": "notes", "role": "writer", "limits": limits}
    shared.grants["g_1"]["by"] = markup
    press_button(page, sheet, "Close")
    page.click("#share")
    wait_for_texts(page, f"{ACCESS} .entry-text", markup)
    assert page.evaluate("document.querySelectorAll('.sheet img, .sheet script').length") == 0


def test_escape_closes_the_sheet_and_leaves_nothing_of_it(page: Page, shared: FakeServer, sheet: str) -> None:
    assert page.evaluate(f"document.querySelector('{sheet}').contains(document.activeElement)")
    page.press("Escape")
    page.wait_for("document.querySelector('.sheet') === null")


# --- the pages ---


def open_page(page: Page, fake: FakeServer, name: str, user: str = "ada") -> None:
    log_in(page, fake, user, f"#/{name}")
    page.wait_for("document.querySelector('#pages .entry, #pages .entries .hint') !== null")


def test_a_user_is_added_made_administrator_disabled_and_removed_by_its_name(page: Page, shared: FakeServer) -> None:
    open_page(page, shared, "users")
    page.click("#pages summary")
    wait_for_texts(page, "#pages .hint", RULE)
    set_field(page, "#pages", "Name", "carol")
    set_field(page, "#pages", "Password", "a long password")
    press_button(page, "#pages form", "Add")
    wait_for_texts(page, "#pages .entry strong", "carol")
    assert shared.asked("PUT", "/v1/users/carol") == [{"password": "a long password"}]
    entry = "#pages .entry:nth-child(3)"
    press_button(page, entry, "Make administrator")
    wait_for_texts(page, f"{entry} .badge", "administrator")
    page.evaluate(f"document.querySelector('{entry} button').focus()")
    press_button(page, entry, "Disable")
    wait_for_texts(page, f"{entry} .badge", "disabled")
    assert page.evaluate("document.activeElement.textContent") == "Enable"
    press_button(page, entry, "Remove")
    set_field(page, ".sheet", "Type carol to remove this user", "karol")
    press_button(page, ".sheet form", "Remove")
    wait_for_texts(page, ".sheet .error", "This is not the name of the user.")
    set_field(page, ".sheet", "Type carol to remove this user", "carol")
    press_button(page, ".sheet form", "Remove")
    page.wait_for("document.querySelectorAll('#pages .entry').length === 2")
    assert sorted(shared.users) == ["ada", "bob"]


def test_a_refused_user_is_explained_with_the_servers_words(page: Page, shared: FakeServer) -> None:
    open_page(page, shared, "users")
    page.click("#pages summary")
    set_field(page, "#pages", "Name", "Carol")
    press_button(page, "#pages form", "Add")
    wait_for_texts(page, "#pages .error", "Carol cannot name a user; hint of account_invalid")
    expect_refusals(page, 400)


def test_a_group_gets_and_loses_members(page: Page, shared: FakeServer) -> None:
    open_page(page, shared, "groups")
    page.click("#pages summary")
    set_field(page, "#pages", "Name", "team")
    press_button(page, "#pages .adder form", "Make")
    wait_for_texts(page, "#pages .entry strong", "team")
    for name in ("nobody", "bob"):
        page.evaluate(f"document.querySelector('#pages .entry .field').value = '{name}'")
        press_button(page, "#pages .entry form", "Add")
        if name == "nobody":
            wait_for_texts(page, "#pages .entry .error", "there is no such user; hint of account_unknown")
    wait_for_texts(page, "#pages .members .badge", "bob")
    assert shared.groups == {"team": ["bob"]}
    page.click("#pages .members button")
    wait_for_texts(page, "#pages .members .hint", "nobody")
    press_button(page, "#pages", "Remove group")
    press_button(page, "#pages", "Really remove?")
    wait_for_texts(page, "#pages .hint", "There are no groups.")
    expect_refusals(page, 404)


def test_the_secret_of_a_token_is_shown_once(page: Page, shared: FakeServer) -> None:
    open_page(page, shared, "tokens", "bob")
    page.click("#pages summary")
    set_field(page, "#pages", "Title", "backups")
    set_field(page, "#pages", "Stores", "notes, log*")
    press_button(page, "#pages form", "Make the token")
    page.wait_for("document.querySelector('#pages .made .field') !== null")
    secret = page.evaluate("document.querySelector('#pages .made .field').value")
    assert secret.startswith("syncline_p_secret")
    body = {"title": "backups", "scopes": ["read", "write"], "stores": ["notes", "log*"]}
    assert shared.asked("POST", "/v1/tokens") == [body]
    assert texts(page, "#pages .check") == [" read", " write", " share"]
    page.evaluate("location.hash = '#notes'")
    page.wait_for("!document.getElementById('store').hidden")
    page.evaluate("location.hash = '#/tokens'")
    wait_for_texts(page, "#pages .entry strong", "backups")
    assert secret not in page.evaluate("document.documentElement.outerHTML")
    press_button(page, "#pages", "Revoke")
    press_button(page, "#pages", "Really?")
    wait_for_texts(page, "#pages .hint", "There are no tokens.")


def test_a_session_is_called_by_its_browser_and_system_and_tells_the_rest_when_pointed_at(
    page: Page, shared: FakeServer
) -> None:
    for number, agent in enumerate(AGENTS):
        token = {"id": f"t_{number}", "user": "bob", "title": agent, "kind": "session", "scopes": []}
        shared.tokens[f"t_{number}"] = token
    open_page(page, shared, "tokens", "bob")
    assert texts(page, "#pages .entry strong") == list(AGENTS.values())
    assert page.evaluate("[...document.querySelectorAll('#pages strong')].map((each) => each.title)") == list(AGENTS)


def test_an_administrator_sees_and_makes_the_tokens_of_others(page: Page, shared: FakeServer) -> None:
    shared.tokens["t_1"] = {"id": "t_1", "user": "bob", "title": "of bob", "kind": "personal", "scopes": ["read"]}
    open_page(page, shared, "tokens")
    assert texts(page, "#pages .entry") == []
    page.evaluate("document.querySelector('.chooser .field').value = 'bob'")
    press_button(page, ".chooser", "Show")
    wait_for_texts(page, "#pages .entry strong", "of bob")
    set_field(page, "#pages", "Title", "another")
    press_button(page, "#pages .adder form", "Make the token")
    page.wait_for("document.querySelectorAll('#pages .entry').length === 2")
    assert [body and body.get("user") for body in shared.asked("POST", "/v1/tokens")] == ["bob"]


def test_the_audit_log_begins_with_the_newest_entry_and_goes_back_page_by_page(page: Page, shared: FakeServer) -> None:
    known = {"action": "grant.add", "actor": "ada", "subject": "g_1", "outcome": "ok", "address": "127.0.0.1"}
    shared.entries = [{"n": n, "time": 0, **known, "detail": {"store": "<b>"}, "prev": "0" * 64} for n in range(120)]
    open_page(page, shared, "audit")
    for count in (50, 100, 120):
        page.wait_for(f"document.querySelectorAll('#pages .entry').length === {count}")
        assert texts(page, "#pages .n") == [str(n) for n in range(119, 119 - count, -1)]
        press_button(page, "#pages", "Older")
    assert page.evaluate("document.querySelector('#pages > .section > .button').hidden")
    assert page.evaluate("document.querySelectorAll('#pages b').length") == 0


def test_pages_for_administrators_are_not_offered_to_others(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "bob", "#/users")
    page.wait_for("document.getElementById('pages-title')?.textContent === 'There is no such page'")
    assert shared.asked("GET", "/v1/users") == []


def test_the_way_back_from_a_page_leads_to_the_same_tail(page: Page, shared: FakeServer) -> None:
    log_in(page, shared, "ada", "#notes")
    page.wait_for("document.querySelectorAll('#rows .row').length === 1")
    page.evaluate("document.querySelector('#rows .row').dataset.same = 'yes'; location.hash = '#/groups'")
    page.wait_for("!document.getElementById('pages').hidden")
    page.click("#store-list a")
    page.wait_for("!document.getElementById('store').hidden")
    assert page.evaluate("document.querySelector('#rows .row').dataset.same") == "yes"
    assert page.evaluate("document.querySelector('#store-list a').getAttribute('aria-current')") == "true"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["users", "groups", "tokens", "audit"])
def test_no_page_overflows_a_window(page: Page, shared: FakeServer, width: int, name: str) -> None:
    long = "x" * 64
    shared.add_user(long, title="y" * 128)
    shared.groups[long] = [long]
    known = {"time": 0, "action": "a", "actor": long, "subject": long, "outcome": "ok", "address": long, "detail": {}}
    shared.entries = [{"n": 0, **known, "prev": ""}]
    shared.tokens["t_1"] = {"id": "t_1", "user": "ada", "title": "z" * 128, "kind": "personal", "stores": [long]}
    page.emulate(width=width, height=700)
    open_page(page, shared, name)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('pages').scrollWidth <= document.getElementById('pages').clientWidth")
