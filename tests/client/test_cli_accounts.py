"""The commands for accounts: whose token is shown, where sessions are kept, what is asked, what is printed."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from syncline.cli import main
from syncline.cli.token_file import Kept, TokenFile
from tests.client.fake_rest import Asked, FakeRest, problem, served_rest

ME = {
    "user": "alice",
    "kind": "user",
    "admin": True,
    "groups": ["team"],
    "auth": "accounts",
    "expires_ms": 1893456000000,
}
NOBODY = {"user": None, "kind": "anonymous", "auth": "accounts"}
SESSION = {"token": "syncline_s_1", "user": "alice", "expires_ms": 1893456000000}
USER = {
    "user": "bob",
    "kind": "user",
    "title": "Bob",
    "admin": False,
    "disabled": True,
    "created_ms": 5,
    "login_ms": None,
}
GROUP = {"group": "team", "members": ["alice", "bob"], "created_ms": 5}
TOKEN = {"id": "t_1", "user": "alice", "title": "backup", "kind": "personal", "scopes": ["read"], "created_ms": 5}
GRANT = {"id": "g_1", "to": "user:bob", "store": "notes", "role": "writer", "by": "alice", "created_ms": 5}
INVITATION = {"id": "i_1", "store": "notes", "role": "reader", "by": "alice", "created_ms": 5, "uses_max": 3, "uses": 1}


@pytest.fixture
def rest() -> Iterator[FakeRest]:
    with served_rest() as rest:
        rest.answers = {("GET", "me"): (200, NOBODY), ("POST", "login"): (200, SESSION)}
        yield rest


def syncline(rest: FakeRest, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
    """Run the command line."""
    environment = {"SYNCLINE_URL": rest.url, **(env or {})}
    return CliRunner().invoke(main, arguments, input=stdin, prog_name="syncline", env=environment)


def sent(rest: FakeRest) -> list[tuple[str, str, Any]]:
    return [(asked.method, asked.path, asked.body) for asked in rest.asked]


# --- sessions ---


def test_a_login_asks_without_an_echo_and_keeps_the_session_where_nobody_else_reads_it(rest: FakeRest) -> None:
    result = syncline(rest, "login", stdin="alice\nsecret\n")
    assert result.exit_code == 0
    assert "logged in at" in result.stderr
    assert "as alice, until 2030-01-01 00:00:00Z" in result.stderr
    assert "secret" not in result.output
    assert "syncline_s_1" not in result.output
    assert rest.last == Asked("POST", "login", {"user": "alice", "password": "secret"}, None)
    path = TokenFile().path
    assert path.parent == Path(click.get_app_dir("syncline"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TokenFile().get(rest.url) == Kept("syncline_s_1", "alice", 1893456000000)


def test_a_password_may_come_from_stdin_and_is_never_a_word_of_the_command(rest: FakeRest) -> None:
    assert syncline(rest, "login", "--user", "alice", "--password-stdin", stdin="two words\n").exit_code == 0
    assert rest.last.body == {"user": "alice", "password": "two words"}
    assert syncline(rest, "login", "--user", "alice", "--password", "secret").exit_code == 2
    empty = syncline(rest, "login", "--user", "alice", "--password-stdin", stdin="")
    assert (empty.exit_code, "no password in its first line" in empty.stderr) == (2, True)


def test_a_login_that_fails_keeps_nothing_and_says_why(rest: FakeRest) -> None:
    rest.answers["POST", "login"] = problem(401, "login_failed", "no account has this name and password")
    result = syncline(rest, "login", "--user", "alice", stdin="wrong\n")
    assert (result.exit_code, TokenFile().get(rest.url)) == (1, None)
    assert "error: no account has this name and password\n" in result.stderr


@pytest.mark.parametrize(
    ("me", "text"), [({"auth": "none"}, "nobody has to log in"), ({**NOBODY, "setup": True}, "syncline setup CODE")]
)
def test_where_nobody_can_log_in_no_password_is_asked_for(rest: FakeRest, me: dict[str, Any], text: str) -> None:
    rest.answers["GET", "me"] = (200, me)
    result = syncline(rest, "login", stdin="")
    assert (result.exit_code, text in result.stderr) == (1, True)


def test_the_token_of_the_command_wins_over_the_variable_and_that_over_the_session(rest: FakeRest) -> None:
    rest.answers["GET", "me"] = (200, ME)
    TokenFile().put(rest.url, Kept("kept", "alice"))
    TokenFile().put("http://elsewhere", Kept("other", "alice"))
    syncline(rest, "whoami")
    syncline(rest, "whoami", env={"SYNCLINE_TOKEN": "variable"})
    syncline(rest, "whoami", "--token", "word", env={"SYNCLINE_TOKEN": "variable"})
    syncline(rest, "--token", "before", "whoami")
    syncline(rest, "--token", "before", "whoami", "--token", "after")
    assert [asked.token for asked in rest.asked] == ["kept", "variable", "word", "before", "after"]


def test_sessions_of_several_servers_are_kept_side_by_side_and_a_damaged_file_is_begun_anew(rest: FakeRest) -> None:
    file = TokenFile()
    file.put("http://a", Kept("1", "alice"))
    file.put("http://b", Kept("2", "bob", 5))
    file.forget("http://a")
    assert (file.get("http://a"), file.get("http://b")) == (None, Kept("2", "bob", 5))
    file.path.write_text("{")
    assert file.get("http://b") is None
    assert syncline(rest, "login", "--user", "alice", stdin="secret\n").exit_code == 0
    assert [path.name for path in file.path.parent.iterdir()] == ["sessions.json"]


def test_a_logout_ends_the_session_also_if_the_server_has_ended_it_already(rest: FakeRest) -> None:
    answers: list[tuple[int, Any]] = [(200, {}), problem(401, "token_expired")]
    for answer in answers:
        TokenFile().put(rest.url, Kept("kept", "alice"))
        rest.answers["POST", "logout"] = answer
        result = syncline(rest, "logout", env={"SYNCLINE_TOKEN": "variable"})
        assert (result.exit_code, rest.last) == (0, Asked("POST", "logout", {}, "kept"))
        assert TokenFile().get(rest.url) is None
    again = syncline(rest, "logout")
    assert (again.exit_code, "nobody is logged in" in again.stderr) == (1, True)


def test_whoami_says_who_and_what(rest: FakeRest) -> None:
    rest.answers["GET", "me"] = (200, ME)
    result = syncline(rest, "whoami")
    assert result.stdout == "alice\n"
    assert result.stderr == "user, administrator, in team, until 2030-01-01 00:00:00Z\n"
    assert json.loads(syncline(rest, "whoami", "--json").stdout)["user"] == "alice"
    rest.answers["GET", "me"] = (200, NOBODY)
    nobody = syncline(rest, "whoami")
    assert (nobody.exit_code, "syncline login" in nobody.stderr) == (1, True)
    rest.answers["GET", "me"] = (200, {"auth": "none", "kind": "open"})
    anybody = syncline(rest, "whoami")
    assert (anybody.exit_code, "has no accounts" in anybody.stderr) == (0, True)


def test_setup_takes_the_code_or_the_link_and_asks_for_the_password_twice(rest: FakeRest) -> None:
    rest.answers["POST", "setup"] = (201, SESSION)
    result = syncline(rest, "setup", f"{rest.url}/#setup=syncline_c_1", "--user", "alice", stdin="secret\nsecret\n")
    assert result.exit_code == 0
    assert rest.last.body == {"code": "syncline_c_1", "user": "alice", "password": "secret"}
    assert TokenFile().get(rest.url) is not None
    differs = syncline(rest, "setup", "syncline_c_1", "--user", "alice", stdin="secret\nsecre\n")
    assert (differs.exit_code, len(rest.asked)) == (1, 1)


def test_a_new_password_may_bring_another_session(rest: FakeRest) -> None:
    TokenFile().put(rest.url, Kept("kept", "alice"))
    rest.answers["POST", "password"] = (200, {**SESSION, "token": "syncline_s_2"})
    assert syncline(rest, "password", "--password-stdin", stdin="old\nnew\n").exit_code == 0
    assert rest.last == Asked("POST", "password", {"password": "old", "new_password": "new"}, "kept")
    kept = TokenFile().get(rest.url)
    assert kept is not None
    assert kept.token == "syncline_s_2"
    rest.answers["POST", "password"] = (200, {**SESSION, "token": None})
    result = syncline(rest, "password", "--password-stdin", stdin="new\nnewer\n")
    assert (result.exit_code, "all other sessions have ended" in result.stderr) == (0, True)
    assert TokenFile().get(rest.url) == kept


def test_whoever_is_not_logged_in_is_told_how_to(rest: FakeRest) -> None:
    rest.answers["GET", "grants"] = problem(401, "unauthenticated", "this needs credentials")
    result = syncline(rest, "grants", "list")
    assert result.exit_code == 1
    assert "this needs credentials; log in with `syncline login`" in result.stderr


# --- users, groups, tokens ---


def test_users_are_printed_in_columns_or_as_json(rest: FakeRest) -> None:
    rest.answers["GET", "users"] = (200, {"users": [{**USER, "title": "B\x1b[31mob"}]})
    lines = syncline(rest, "users", "list").stdout.splitlines()
    assert lines[0].split() == ["user", "is", "last", "login", "title"]
    assert lines[1].split() == ["bob", "user,", "disabled", "-", "B\\x1b[31mob"]
    assert json.loads(syncline(rest, "users", "list", "--json").stdout)["user"] == "bob"
    rest.answers["GET", "users"] = (200, {"users": []})
    assert syncline(rest, "users", "list").output == ""


def test_users_are_added_changed_and_removed(rest: FakeRest) -> None:
    rest.answers |= {
        ("GET", "users/bob"): problem(404, "account_unknown"),
        ("PUT", "users/bob"): (201, USER),
        ("DELETE", "users/bob"): (200, USER),
    }
    assert syncline(rest, "users", "add", "bob", "--title", "Bob", stdin="secret\nsecret\n").exit_code == 0
    assert rest.last.body == {"admin": False, "service": False, "title": "Bob", "password": "secret"}
    assert syncline(rest, "users", "add", "bob", "--service").exit_code == 0
    assert rest.last.body == {"admin": False, "service": True, "title": ""}
    rest.answers["GET", "users/bob"] = (200, USER)
    assert syncline(rest, "users", "set", "bob", "--enable", "--admin").exit_code == 0
    assert rest.last.body == {"admin": True, "disabled": False}
    assert syncline(rest, "users", "set", "bob", "--password-stdin", stdin="new\n").exit_code == 0
    assert rest.last.body == {"password": "new"}
    assert syncline(rest, "users", "set", "bob").exit_code == 2
    assert syncline(rest, "users", "remove", "bob").exit_code == 0
    assert rest.last.method == "DELETE"
    taken = syncline(rest, "users", "add", "bob", "--service")
    assert (taken.exit_code, "there is a user 'bob' already" in taken.stderr) == (1, True)


def test_groups_have_members_who_join_and_leave(rest: FakeRest) -> None:
    member = "groups/team/members/bob"
    rest.answers |= {
        ("GET", "groups"): (200, {"groups": [GROUP]}),
        **{(method, path): (200, GROUP) for method in ("PUT", "DELETE") for path in ("groups/team", member)},
    }
    assert "team   alice, bob" in syncline(rest, "groups", "list").stdout
    assert syncline(rest, "groups", "add", "team", "alice").exit_code == 0
    assert "team has alice, bob" in syncline(rest, "groups", "join", "team", "bob").stderr
    syncline(rest, "groups", "leave", "team", "bob")
    syncline(rest, "groups", "remove", "team")
    assert sent(rest)[1:] == [
        ("PUT", "groups/team", {"members": ["alice"]}),
        ("PUT", member, None),
        ("DELETE", member, None),
        ("DELETE", "groups/team", None),
    ]


def test_a_token_is_printed_alone_so_that_a_script_can_take_it(rest: FakeRest) -> None:
    rest.answers |= {
        ("POST", "tokens"): (201, {"secret": "syncline_p_1", "token": TOKEN}),
        ("GET", "tokens"): (200, {"tokens": [TOKEN]}),
        ("DELETE", "tokens/t_1"): (200, TOKEN),
    }
    words = ("--scope", "read", "--store", "notes", "--store", "log-*", "--expires", "2030-01-01")
    result = syncline(rest, "tokens", "create", "backup", *words)
    assert result.stdout == "syncline_p_1\n"
    assert "not shown again" in result.stderr
    narrowed = {"scopes": ["read"], "stores": ["notes", "log-*"], "expires_ms": 1893456000000}
    assert rest.last.body == {"title": "backup", **narrowed}
    assert json.loads(syncline(rest, "tokens", "create", "backup", "--json").stdout)["secret"] == "syncline_p_1"
    assert "t_1  alice  personal  backup  read" in syncline(rest, "tokens", "list").stdout
    assert syncline(rest, "tokens", "revoke", "t_1").exit_code == 0


# --- sharing ---


def test_grants_are_added_with_their_limits_listed_and_taken_back(rest: FakeRest) -> None:
    limited = {**GRANT, "limits": {"key_prefix": "bob/", "own_only": True}, "authors": False}
    rest.answers |= {
        ("POST", "grants"): (201, GRANT),
        ("GET", "grants?store=notes"): (200, {"grants": [limited]}),
        ("DELETE", "grants/g_1"): (200, GRANT),
    }
    words = ("--role", "writer", "--key-prefix", "bob/", "--own-only", "--writes-per-s", "2.5", "--no-authors")
    result = syncline(rest, "grants", "add", "notes", "bob", *words)
    assert (result.exit_code, result.stderr) == (0, "granted notes to user:bob as writer: g_1\n")
    assert rest.asked[-2].body == {
        "to": "user:bob",
        "store": "notes",
        "role": "writer",
        "limits": {"key_prefix": "bob/", "own_only": True, "writes_per_s": 2.5},
        "authors": False,
    }
    assert "key_prefix=bob/ own_only no_authors" in syncline(rest, "grants", "list", "notes").stdout
    assert "took notes back from user:bob" in syncline(rest, "grants", "remove", "g_1").stderr


@pytest.mark.parametrize(
    ("option", "eq", "shown"),
    [
        ("room=r1", "r1", 'room="r1"'),
        ('room="5"', "5", 'room="5"'),
        ("room=5", 5, "room=5"),
        ("room=null", None, "room=null"),
        ("room=a=b", "a=b", 'room="a=b"'),
        ("room=", "", 'room=""'),
    ],
)
def test_what_an_index_finds_is_granted_and_listed_as_it_is_said(
    rest: FakeRest, option: str, eq: object, shown: str
) -> None:
    limits = {"read_where": {"index": "room", "eq": eq}}
    made = {"code": "syncline_i_1", "invitation": {**INVITATION, "limits": limits}}
    rest.answers |= {
        ("POST", "grants"): (201, GRANT),
        ("GET", "grants?store=notes"): (200, {"grants": [{**GRANT, "limits": limits}]}),
        ("POST", "invitations"): (201, made),
    }
    assert syncline(rest, "grants", "add", "notes", "bob", "--read-where", option).exit_code == 0
    assert rest.asked[-2].body["limits"] == limits
    assert f"read_where={shown}  alice" in syncline(rest, "grants", "list", "notes").stdout
    assert syncline(rest, "invite", "notes", "--read-where", option).exit_code == 0
    assert rest.last.body["limits"] == limits


def test_a_grant_for_a_store_that_is_not_there_is_made_with_a_warning(rest: FakeRest) -> None:
    rest.answers |= {
        ("POST", "grants"): (201, GRANT),
        ("GET", "stores/notse"): problem(404, "store_unknown"),
    }
    result = syncline(rest, "grants", "add", "notse", "bob")
    assert (result.exit_code, "warning: there is no store notse yet" in result.stderr) == (0, True)
    assert "warning" not in syncline(rest, "grants", "add", "notse*", "bob").stderr


@pytest.mark.parametrize("command", [("grants", "add", "notes", "bob"), ("invite", "notes")])
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--key-prefix", "b/"), "--key-prefix: a reader writes nothing that could be limited; say --role writer"),
        (("--add-only", "--records-max", "5"), "--add-only, --records-max: a reader"),
        (("--role", "writer", "--records-max", "0"), "0 is no limit: say a number greater than 0"),
        (("--role", "writer", "--writes-per-s", "nan"), "nan is no limit"),
        (("--read-where", "room"), "'room' is not INDEX=SCALAR"),
        (("--read-where", "=r1"), "'=r1' is not INDEX=SCALAR"),
        (("--role", "writer", "--read-where", "room=r1"), "--read-where: answers to writes would tell"),
    ],
)
def test_limits_that_make_no_sense_are_wrong_usage_and_never_sent(
    rest: FakeRest, command: tuple[str, ...], flags: tuple[str, ...], text: str
) -> None:
    result = syncline(rest, *command, *flags)
    assert (result.exit_code, text in result.stderr, rest.asked) == (2, True, [])


def test_an_invitation_is_a_link_and_is_accepted_by_it(rest: FakeRest) -> None:
    made = {"code": "syncline_i_1", "path": "/#invite=syncline_i_1", "invitation": INVITATION}
    rest.answers |= {
        ("POST", "invitations"): (201, made),
        ("GET", "invitations"): (200, {"invitations": [INVITATION]}),
        ("DELETE", "invitations/i_1"): (200, INVITATION),
        ("POST", "invitations/accept"): (200, {"grant": GRANT, "login": None}),
    }
    result = syncline(rest, "invite", "notes", "--role", "reader", "--uses", "3")
    assert result.stdout == f"{rest.url}/#invite=syncline_i_1\n"
    assert rest.last.body == {"store": "notes", "role": "reader", "uses_max": 3}
    assert syncline(rest, "invite", "create", "list").exit_code == 0
    assert rest.last.body == {"store": "list", "role": "reader"}
    assert "1 of 3" in syncline(rest, "invite", "list").stdout
    assert syncline(rest, "invite", "remove", "i_1").exit_code == 0
    accepted = syncline(rest, "accept", result.stdout.strip(), "--token", "mine")
    assert "user:bob is writer of notes now" in accepted.stderr
    assert rest.last == Asked("POST", "invitations/accept", {"code": "syncline_i_1"}, "mine")


def test_an_invitation_makes_an_account_and_logs_in(rest: FakeRest) -> None:
    rest.answers["POST", "invitations/accept"] = (200, {"grant": GRANT, "login": {**SESSION, "user": "bob"}})
    result = syncline(rest, "accept", "syncline_i_1", "--user", "bob", stdin="secret\nsecret\n")
    assert result.exit_code == 0
    assert rest.last.body == {"code": "syncline_i_1", "user": "bob", "password": "secret"}
    kept = TokenFile().get(rest.url)
    assert kept is not None
    assert kept.user == "bob"


@pytest.mark.parametrize(
    ("text", "ends_in_s"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("4w", 2419200)]
)
def test_an_end_may_be_a_time_from_now_on(rest: FakeRest, text: str, ends_in_s: int) -> None:
    rest.answers["POST", "grants"] = (201, GRANT)
    syncline(rest, "grants", "add", "notes", "bob")
    syncline(rest, "grants", "add", "notes", "bob", "--expires", text)
    first, second = (asked.body for asked in rest.asked if asked.method == "POST")
    assert "expires_ms" not in first
    assert second["expires_ms"] > ends_in_s * 1000
    wrong = syncline(rest, "grants", "add", "notes", "bob", "--expires", "soon")
    assert (wrong.exit_code, "say 7d" in wrong.stderr) == (2, True)


def test_who_accepts_without_an_account_is_told_how_to_make_one(rest: FakeRest) -> None:
    rest.answers["POST", "invitations/accept"] = problem(401, "unauthenticated", "this needs credentials")
    result = syncline(rest, "accept", "syncline_i_1")
    assert result.exit_code == 1
    assert "this needs credentials; `--user NAME` makes an account with it; who has one logs in" in result.stderr


def test_tokens_of_nobody_are_told_from_nobodys_tokens(rest: FakeRest) -> None:
    rest.answers |= {
        ("GET", "tokens?user=bob"): (200, {"tokens": []}),
        ("GET", "users/bob"): problem(404, "account_unknown", "there is no such user"),
    }
    result = syncline(rest, "tokens", "list", "--user", "bob")
    assert (result.exit_code, "there is no such user" in result.stderr) == (1, True)
    for answer in ((200, USER), problem(403, "forbidden")):
        rest.answers["GET", "users/bob"] = answer
        assert syncline(rest, "tokens", "list", "--user", "bob").exit_code == 0


def test_who_is_vouched_for_elsewhere_is_told_that_he_has_no_tokens(rest: FakeRest) -> None:
    rest.answers |= {
        ("POST", "tokens"): problem(404, "account_unknown", "there is no such user"),
        ("GET", "me"): (200, {"user": "jwt:bob", "kind": "external", "auth": "accounts"}),
    }
    result = syncline(rest, "tokens", "create", "backup")
    assert (result.exit_code, "users that others vouch for have no tokens here" in result.stderr) == (1, True)
    assert "there is no such user" in syncline(rest, "tokens", "create", "backup", "--user", "eve").stderr


def test_the_list_of_stores_says_that_nobody_is_logged_in(rest: FakeRest) -> None:
    rest.answers["GET", "stores"] = (200, {"stores": []})
    assert "nobody is logged in; log in with `syncline login`" in syncline(rest, "stores").stderr
    shown = {"name": "news", "store_id": "s", "head": "a:1", "seq": 1, "role": "reader"}
    rest.answers["GET", "stores"] = (200, {"stores": [shown]})
    assert "nobody is logged in; there may be more" in syncline(rest, "stores").stderr
    assert syncline(rest, "stores", "--token", "good").stderr == ""
    rest.answers["GET", "stores"] = (200, {"stores": [{**shown, "role": None}]})
    assert syncline(rest, "stores").stderr == ""


@pytest.mark.parametrize(
    ("me", "text"),
    [
        (NOBODY, "warn  nobody is logged in; log in with `syncline login`"),
        ({**ME, "admin": False}, "ok    logged in as alice"),
        ({"auth": "none", "kind": "open"}, "ok    the server has no accounts, nobody has to log in"),
    ],
)
def test_the_doctor_says_who_we_are_and_does_not_ask_who_is_no_administrator_to_update(
    rest: FakeRest, me: dict[str, Any], text: str
) -> None:
    rest.answers |= {
        ("GET", "/health/live"): (200, {}),
        ("GET", "/health/ready"): (200, {}),
        ("GET", "me"): (200, me),
        ("GET", "server"): (200, {"server": "syncline/1"}),
    }
    lines = syncline(rest, "doctor").stdout.splitlines()
    assert text in "\n".join(lines)
    assert ("ok    storage: shown to administrators only" in lines) == (me["auth"] == "accounts")
    assert any("update it" in line for line in lines) == (me["auth"] == "none")


def test_the_doctor_says_that_a_token_is_refused_and_looks_no_further(rest: FakeRest) -> None:
    rest.answers |= {("GET", "/health/live"): (200, {}), ("GET", "/health/ready"): (200, {})}
    ignored = syncline(rest, "doctor", "--token", "bad")
    assert (ignored.exit_code, rest.last.path) == (1, "me")
    assert "fail  the server does not accept the token: it is wrong, has expired or was" in ignored.stdout
    rest.answers["GET", "me"] = problem(401, "token_expired", "the token has expired")
    result = syncline(rest, "doctor")
    last = "fail  the server does not let us in: the token has expired; log in with `syncline login`, or give a token"
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(last)
