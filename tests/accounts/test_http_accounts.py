"""Users, groups, tokens, grants, invitations and the audit log, by HTTP: who may what, and what is written down."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from .desk import PASSWORD, Desk, Person, desk


@pytest.fixture
async def server() -> AsyncIterator[Desk]:
    """A server without an account."""
    async with desk() as made:
        yield made


@pytest.fixture
async def root(server: Desk) -> Person:
    """The administrator."""
    return await server.admin()


@pytest.fixture
async def ada(server: Desk, root: Person) -> Person:
    """A user, owner of the stores `notes` and `team.*`."""
    person = await server.user("ada")
    for store in ("notes", "team.*"):
        (await root.post("grants", {"to": "user:ada", "store": store, "role": "owner"})).ok(201)
    return person


@pytest.fixture
async def bob(server: Desk) -> Person:
    """A user who owns nothing."""
    return await server.user("bob")


# --- what is for administrators ---


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "users", None),
        ("GET", "users/root", None),
        ("PUT", "users/eve", {}),
        ("DELETE", "users/root", None),
        ("GET", "groups", None),
        ("PUT", "groups/staff", {}),
        ("DELETE", "groups/staff", None),
        ("PUT", "groups/staff/members/ada", None),
        ("DELETE", "groups/staff/members/ada", None),
        ("GET", "tokens?user=root", None),
        ("POST", "tokens", {"title": "x", "user": "root"}),
        ("GET", "audit", None),
    ],
)
async def test_administration_is_for_administrators(
    server: Desk, root: Person, ada: Person, method: str, path: str, body: object
) -> None:
    before = await server.audit()
    (await server.person().ask(method, path, body)).refused(401, "unauthenticated")
    (await ada.ask(method, path, body)).refused(403, "forbidden")
    if "tokens" not in path:
        for limits in ({"scopes": ["read", "write", "share"]}, {"stores": ["notes"]}):
            limited = (await root.post("tokens", {"title": "x", **limits})).ok(201)["secret"]
            (await server.person(limited).ask(method, path, body)).refused(403, "forbidden")
            before.append(("token.add", "root", "", "ok"))
    assert len(await server.audit()) == len(before), "what is refused to everybody fills no log"


async def test_users_are_made_changed_and_deleted(server: Desk, root: Person) -> None:
    made = (await root.put("users/eve", {"password": PASSWORD, "title": "Eve"})).ok(201)
    assert made == {
        "user": "eve", "kind": "user", "title": "Eve", "admin": False, "disabled": False,
        "created_ms": server.hub.now_ms(), "login_ms": None, "oidc": False,
    }  # fmt: skip
    eve = server.person()
    eve.token = (await eve.post("login", {"user": "eve", "password": PASSWORD})).ok()["token"]
    changed = (await root.put("users/eve", {"disabled": True, "admin": True, "service": True})).ok()
    assert (changed["disabled"], changed["admin"], changed["kind"], changed["title"]) == (True, True, "service", "Eve")
    assert (await eve.get("me")).ok()["user"] is None
    assert [user["user"] for user in (await root.get("users")).ok()["users"]] == ["eve", "root"]
    assert (await root.get("users/eve")).ok() == (await root.delete("users/eve")).ok()
    (await root.get("users/eve")).refused(404, "account_unknown")
    (await root.delete("users/eve")).refused(404, "account_unknown")
    (await root.put("users/eve", {})).refused(409, "name_taken")
    assert (await server.audit())[2:] == [
        ("user.add", "root", "eve", "ok"),
        ("login.ok", "eve", "eve", "ok"),
        ("user.change", "root", "eve", "ok"),
        ("user.remove", "root", "eve", "ok"),
    ]


async def test_a_user_that_breaks_a_rule_is_not_made(root: Person) -> None:
    (await root.put("users/Eve", {})).refused(400, "account_invalid")
    (await root.put("users/e%2Fve", {})).refused(400, "account_invalid")
    (await root.put("users/%FF", {})).refused(400, "account_invalid")
    (await root.put("users/eve", {"password": "short"})).refused(400, "account_invalid")
    (await root.put("users/eve", {"title": "a\nb"})).refused(400, "account_invalid")
    (await root.put("users/eve", {"is_admin": True})).refused(400, "unknown_parameter")
    (await root.put("users/eve", {"admin": 1})).refused(400, "bad_message")
    (await root.put("users/root", {"admin": False})).refused(403, "forbidden")
    (await root.delete("users/root")).refused(403, "forbidden")


async def test_an_administrator_who_changes_his_own_password_stays_logged_in(server: Desk, root: Person) -> None:
    (await root.put("users/root", {"password": "another long password"})).ok()
    (await root.get("me")).ok()


async def test_groups_are_made_filled_and_deleted(server: Desk, root: Person, ada: Person, bob: Person) -> None:
    assert (await root.put("groups/staff", {"members": ["bob", "ada"]})).ok(201)["members"] == ["ada", "bob"]
    assert (await root.put("groups/staff", {})).ok()["members"] == ["ada", "bob"]
    assert (await root.delete("groups/staff/members/ada")).ok()["members"] == ["bob"]
    assert (await root.put("groups/staff/members/ada")).ok()["members"] == ["ada", "bob"]
    (await root.put("groups/staff/members/eve")).refused(404, "account_unknown")
    (await root.put("groups/gone/members/ada")).refused(404, "account_unknown")
    (await root.put("groups/staff", {"members": ["eve"]})).refused(404, "account_unknown")
    assert (await ada.get("me")).ok()["groups"] == ["staff"]
    assert [group["group"] for group in (await root.get("groups")).ok()["groups"]] == ["staff"]
    (await root.delete("groups/staff")).ok()
    (await root.delete("groups/staff")).refused(404, "account_unknown")
    actions = [entry[0] for entry in await server.audit() if entry[0].startswith("group.")]
    assert actions == ["group.add", "group.change", "group.change", "group.remove"]


# --- tokens ---


async def test_tokens_are_made_listed_and_revoked(server: Desk, ada: Person) -> None:
    end_ms = server.hub.now_ms() + 1000
    body = {"title": "script", "scopes": ["read"], "stores": ["notes"], "expires_ms": end_ms}
    made = (await ada.post("tokens", body)).ok(201)
    token = made["token"]
    assert token == {
        "id": token["id"], "user": "ada", "title": "script", "kind": "personal", "scopes": ["read"],
        "stores": ["notes"], "created_ms": server.hub.now_ms(), "expires_ms": end_ms, "used_ms": None,
    }  # fmt: skip
    listed = await ada.get("tokens")
    assert {it["kind"] for it in listed.ok()["tokens"]} == {"session", "personal"}
    assert made["secret"] not in listed.content.decode()
    assert "hash" not in listed.content.decode()
    assert (await ada.delete(f"tokens/{token['id']}")).ok() == token
    (await ada.delete(f"tokens/{token['id']}")).refused(404, "account_unknown")
    assert (await server.person(made["secret"]).get("me")).ok()["user"] is None
    assert [entry for entry in await server.audit() if entry[0].startswith("token.")] == [
        ("token.add", "ada", token["id"], "ok"),
        ("token.revoke", "ada", token["id"], "ok"),
    ]


async def test_a_limited_token_does_not_become_more(server: Desk, ada: Person) -> None:
    for limits in ({"scopes": ["read", "write", "share"]}, {"stores": ["notes"]}):
        made = (await ada.post("tokens", {"title": "x", **limits})).ok(201)
        person = server.person(made["secret"])
        (await person.post("tokens", {"title": "y"})).refused(403, "forbidden")
        for other in (await person.get("tokens")).ok()["tokens"]:
            if other["id"] != made["token"]["id"]:
                (await person.delete(f"tokens/{other['id']}")).refused(403, "forbidden")
        (await person.delete(f"tokens/{made['token']['id']}")).ok()


async def test_a_token_made_with_a_token_does_not_outlive_it(server: Desk, ada: Person) -> None:
    end_ms = server.hub.now_ms() + 1000
    person = server.person((await ada.post("tokens", {"title": "x", "expires_ms": end_ms})).ok(201)["secret"])
    (await person.post("tokens", {"title": "y", "expires_ms": end_ms + 1})).refused(403, "forbidden")
    assert (await person.post("tokens", {"title": "y"})).ok(201)["token"]["expires_ms"] == end_ms


async def test_the_tokens_of_others_are_an_administrators_affair(
    server: Desk, root: Person, ada: Person, bob: Person
) -> None:
    token = (await ada.post("tokens", {"title": "x"})).ok(201)["token"]
    absent = await bob.delete("tokens/t_0000000000000000")
    assert (await bob.delete(f"tokens/{token['id']}")).content == absent.content
    (await root.delete(f"tokens/{token['id']}")).ok()
    (await root.put("users/robot", {"service": True})).ok(201)
    made = (await root.post("tokens", {"title": "robot", "user": "robot"})).ok(201)
    assert (await server.person(made["secret"]).get("me")).ok()["kind"] == "service"
    assert len((await root.get("tokens?user=robot")).ok()["tokens"]) == 1
    (await root.post("tokens", {"title": "x", "user": "gone"})).refused(404, "account_unknown")
    (await ada.post("tokens", {"title": "x", "scopes": ["fly"]})).refused(400, "bad_message")


# --- sharing ---


async def test_owners_share_their_stores_and_no_others(server: Desk, ada: Person, bob: Person) -> None:
    grant = {"to": "user:bob", "store": "notes", "role": "writer", "limits": {"add_only": True}}
    made = (await ada.post("grants", grant)).ok(201)
    assert made == {
        **grant, "id": made["id"], "by": "ada", "authors": True, "expires_ms": None, "created_ms": server.hub.now_ms(),
    }  # fmt: skip
    again = (await ada.post("grants", grant | {"role": "reader", "limits": {}})).ok()
    assert again["id"] != made["id"]
    for store in ("other", "*", "note*", "notes*", "tea*"):
        (await ada.post("grants", grant | {"store": store})).refused(403, "forbidden")
    for store in ("team.a", "team.a*", "team.*"):
        (await ada.post("grants", grant | {"store": store})).ok(201)
    (await bob.post("grants", grant)).refused(403, "forbidden")
    (await server.person().post("grants", grant)).refused(401, "unauthenticated")
    (await ada.post("grants", grant | {"to": "user:gone"})).refused(404, "account_unknown")
    (await ada.post("grants", grant | {"role": "owner"})).refused(400, "account_invalid")
    (await ada.post("grants", grant | {"store": "a b"})).refused(400, "account_invalid")
    (await ada.post("grants", grant | {"limits": {"weekdays": True}})).refused(400, "unknown_parameter")
    (await bob.delete(f"grants/{again['id']}")).ok()
    (await ada.delete(f"grants/{again['id']}")).refused(404, "account_unknown")


async def test_a_token_without_the_scope_or_the_store_shares_nothing(server: Desk, root: Person, ada: Person) -> None:
    body = {"to": "everyone", "store": "notes", "role": "reader"}
    for maker in (ada, root):
        for limits in ({"scopes": ["read", "write", "admin"]}, {"stores": ["team.*"]}):
            person = server.person((await maker.post("tokens", {"title": "x", **limits})).ok(201)["secret"])
            (await person.post("grants", body)).refused(403, "forbidden")
            (await person.get("grants?store=notes")).refused(403, "forbidden")
    person = server.person((await ada.post("tokens", {"title": "x", "stores": ["notes"]})).ok(201)["secret"])
    (await person.post("grants", body)).ok(201)


async def test_grants_are_seen_by_who_has_them_and_who_gives_them(root: Person, ada: Person, bob: Person) -> None:
    grant = (await ada.post("grants", {"to": "user:bob", "store": "notes", "role": "reader"})).ok(201)
    other = (await root.post("grants", {"to": "everyone", "store": "other", "role": "reader"})).ok(201)
    assert [it["id"] for it in (await bob.get("grants")).ok()["grants"]] == [grant["id"]]
    assert sorted(it["store"] for it in (await ada.get("grants")).ok()["grants"]) == ["notes", "notes", "team.*"]
    assert len((await root.get("grants")).ok()["grants"]) == 4
    assert len((await ada.get("grants?store=notes")).ok()["grants"]) == 2
    assert [it["id"] for it in (await ada.get("grants?store=notes&to=user:bob")).ok()["grants"]] == [grant["id"]]
    assert [it["id"] for it in (await root.get("grants?to=everyone")).ok()["grants"]] == [other["id"]]
    (await bob.get("grants?store=notes")).refused(403, "forbidden")
    (await bob.get("grants?store=absent")).refused(403, "forbidden")
    (await root.get("grants?to=bob")).refused(400, "account_invalid")
    absent = await bob.delete("grants/g_0000000000000000")
    assert (await bob.delete(f"grants/{other['id']}")).content == absent.content


async def test_who_shares_a_store_sees_also_who_has_it_by_a_prefix(root: Person, ada: Person, bob: Person) -> None:
    covering = [
        (await root.post("grants", {"to": "user:bob", "store": store, "role": "reader"})).ok(201)["id"]
        for store in ("*", "not*", "notes*")
    ]
    for store in ("other", "notes2", "team.x*", "not"):
        (await root.post("grants", {"to": "everyone", "store": store, "role": "reader"})).ok(201)
    shown = (await ada.get("grants?store=notes")).ok()["grants"]
    assert sorted(it["store"] for it in shown) == ["*", "not*", "notes", "notes*"]
    assert {it["id"] for it in (await ada.get("grants?store=notes&to=user:bob")).ok()["grants"]} == set(covering)
    of_prefix = (await ada.get("grants?store=team.x*")).ok()["grants"]
    assert sorted(it["store"] for it in of_prefix) == ["*", "team.*", "team.x*"]
    for grant in covering:
        (await ada.delete(f"grants/{grant}")).refused(404, "account_unknown")
    (await root.delete(f"grants/{covering[0]}")).ok()
    (await bob.get("grants?store=notes")).refused(403, "forbidden")


async def test_invitations_are_made_accepted_and_withdrawn(server: Desk, ada: Person, bob: Person) -> None:
    body = {"store": "notes", "role": "writer", "limits": {"own_only": True}, "uses_max": 2}
    made = (await ada.post("invitations", body)).ok(201)
    invitation = made["invitation"]
    assert made["path"] == f"/#invite={made['code']}"
    assert (invitation["by"], invitation["uses"], invitation["uses_max"]) == ("ada", 0, 2)
    listed = await ada.get("invitations?store=notes")
    assert listed.ok()["invitations"] == [invitation]
    assert made["code"] not in listed.content.decode()
    assert (await bob.get("invitations")).ok()["invitations"] == []
    (await bob.get("invitations?store=notes")).refused(403, "forbidden")
    (await bob.post("invitations", body)).refused(403, "forbidden")
    accepted = (await bob.post("invitations/accept", {"code": made["code"]})).ok()
    assert (accepted["grant"]["to"], accepted["grant"]["limits"], accepted["login"]) == (
        "user:bob", {"own_only": True}, None,
    )  # fmt: skip
    absent = await bob.delete("invitations/i_0000000000000000")
    assert (await bob.delete(f"invitations/{invitation['id']}")).content == absent.content
    assert (await ada.delete(f"invitations/{invitation['id']}")).ok()["uses"] == 1
    wrong = await bob.post("invitations/accept", {"code": "syncline_i_x"})
    wrong.refused(404, "invitation_invalid")
    assert (await bob.post("invitations/accept", {"code": made["code"]})).content == wrong.content
    assert [entry[:2] for entry in await server.audit() if entry[0].startswith("invitation.")] == [
        ("invitation.add", "ada"),
        ("invitation.accept", "bob"),
        ("invitation.remove", "ada"),
    ]


async def test_who_has_no_account_makes_one_with_an_invitation(server: Desk, ada: Person) -> None:
    code = (await ada.post("invitations", {"store": "notes", "role": "reader"})).ok(201)["code"]
    body = {"code": code, "user": "carl", "password": PASSWORD}
    nobody = server.person()
    (await nobody.post("invitations/accept", {"code": code})).refused(401, "unauthenticated")
    (await nobody.post("invitations/accept", {"code": code, "user": "carl"})).refused(400, "bad_message")
    (await nobody.post("invitations/accept", body | {"user": "ada"})).refused(409, "name_taken")
    (await nobody.post("invitations/accept", body | {"password": "short"})).refused(400, "account_invalid")
    accepted = (await nobody.post("invitations/accept", body)).ok()
    carl = server.person(accepted["login"]["token"])
    assert [it["id"] for it in (await carl.get("grants")).ok()["grants"]] == [accepted["grant"]["id"]]
    browser = server.person()
    accepted = (await browser.post("invitations/accept", body | {"user": "dora", "cookie": True})).ok()
    assert accepted["login"]["token"] is None
    assert (await browser.get("me")).ok()["user"] == "dora"


# --- the audit log ---


async def test_the_audit_log_is_read_in_pages_or_whole(server: Desk, root: Person, ada: Person) -> None:
    page = (await root.get("audit?limit=2")).ok()
    assert [entry["n"] for entry in page["entries"]] == [0, 1]
    assert page["head"]["n"] == 3
    assert [entry["n"] for entry in (await root.get("audit?after=1")).ok()["entries"]] == [2, 3]
    answer = await root.get("audit", Accept="application/x-ndjson")
    assert [entry["action"] for entry in answer.lines] == [
        "setup.done", "login.ok", "grant.add", "grant.add", "audit.export",
    ]  # fmt: skip
    (await root.get("audit?limit=2", Accept="application/x-ndjson")).refused(400, "bad_message")
    (await root.get("audit?after=-2")).refused(400, "bad_message")


async def test_no_secret_is_ever_written_down(server: Desk, root: Person, ada: Person) -> None:
    made = (await ada.post("tokens", {"title": "x"})).ok(201)
    (await server.person().post("login", {"user": made["secret"], "password": PASSWORD})).refused(401, "login_failed")
    text = b"\n".join([entry async for entry in server.accounts.audit.walk()]).decode()
    assert PASSWORD not in text
    assert made["secret"] not in text
    assert str(root.token) not in text


async def details(server: Desk, action: str) -> list[dict[str, str]]:
    """Return what the audit log has of each action of this kind."""
    entries = [msgspec.json.decode(text) for text in await server.accounts.audit.entries()]
    return [entry["detail"] for entry in entries if entry["action"] == action]


async def test_what_somebody_may_do_is_written_down_and_not_only_that_it_changed(server: Desk, root: Person) -> None:
    (await root.put("users/eve", {"password": PASSWORD, "disabled": True})).ok(201)
    (await root.put("users/eve", {"password": PASSWORD + "!", "admin": True, "disabled": False, "title": "E"})).ok()
    assert await details(server, "user.add") == [{"admin": "false", "disabled": "true"}]
    changed = {"fields": "password,admin,disabled,title", "admin": "true", "disabled": "false"}
    assert await details(server, "user.change") == [changed]


async def test_limits_are_written_down_with_what_they_limit(server: Desk, root: Person) -> None:
    limits = {"key_prefix": "a/", "add_only": True}
    end = server.hub.now_ms() + 1000
    offer = {"store": "notes", "role": "writer", "limits": limits, "authors": False, "expires_ms": end}
    (await root.post("grants", offer | {"to": "everyone"})).ok(201)
    (await root.post("grants", {"to": "everyone", "store": "news", "role": "reader"})).ok(201)
    (await root.post("invitations", offer)).ok(201)
    told = {"store": "notes", "role": "writer", "limits": '{"key_prefix":"a/","add_only":true}', "authors": "false"}
    told["expires_ms"] = str(end)
    plain = {"to": "everyone", "store": "news", "role": "reader"}
    assert await details(server, "grant.add") == [told | {"to": "everyone"}, plain]
    assert await details(server, "invitation.add") == [told]
    (await root.post("tokens", {"title": "x", "scopes": ["write", "read"], "stores": ["a", "b*"]})).ok(201)
    (await root.post("tokens", {"title": "y"})).ok(201)
    assert await details(server, "token.add") == [
        {"user": "root", "title": "x", "scopes": "read,write", "stores": "a,b*"},
        {"user": "root", "title": "y", "scopes": "admin,read,share,write"},
    ]


@pytest.mark.parametrize("kind", ["user", "group"])
async def test_a_name_that_was_used_is_refused_and_nothing_is_noted(server: Desk, root: Person, kind: str) -> None:
    (await root.put(f"{kind}s/dan", {})).ok(201)
    (await root.delete(f"{kind}s/dan")).ok()
    before = await server.audit()
    (await root.put(f"{kind}s/dan", {})).refused(409, "name_taken")
    assert await server.audit() == before
