"""Who may ask for what: every operation and every kind of person.

A number is the status of an answer that is not a problem; what else stands in the table is explained in `CODES`.
"""

import pytest

from syncline_protocol.errors import ERROR_CODES
from syncline_server.routes import OPERATIONS
from tests.support.http import Answered

from .people import PEOPLE, Town, town
from .requests import REQUESTS, Asked

CODES = {
    ".": "unauthenticated",
    "exp": "token_expired",
    "no": "forbidden",
    "sto": "store_unknown",
    "rec": "record_unknown",
    "idx": "index_unknown",
    "acc": "account_unknown",
    "tak": "name_taken",
    "log": "login_failed",
    "nam": "store_name_invalid",
    "inv": "invitation_invalid",
    "nof": "not_found",
    "uns": "unsupported",
}

#: Rows of what changes nothing, and of what is counted whatever comes of it.
_READS = ("get", "list", "is", "read", "find", "follow")
_COUNTED = ("login", "changePassword")

TABLE = """
getServer             | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
isLive                | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
isReady               | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
getMetrics            | .   no  no  no  no  no  no  no  no  200 .   .   no  no  no  no
getOpenApi            | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
getAsyncApi           | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
listStores            | 200 200 200 200 200 200 200 200 200 200 exp .   200 200 200 200
createStore           | .   201 201 201 201 201 201 201 201 201 exp .   no  no  201 no
createStore there     | .   tak 200 200 200 200 200 200 200 200 exp .   200 no  tak 200
createStore hidden    | .   tak tak tak tak tak tak tak tak 200 exp .   no  no  tak no
createStore system    | nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
getStore              | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getStore hidden       | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getStore public       | 200 200 200 200 200 200 200 200 200 200 exp .   200 sto 200 sto
getStore system       | nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
getStoreSettings      | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getStoreSettings hidden| .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
putStoreSettings      | .   sto no  no  no  no  no  no  200 200 exp .   no  sto sto 200
putStoreSettings hidden| .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
putStoreSettings public| .   no  no  no  no  no  no  no  no  200 exp .   no  sto no  sto
putStoreSettings system| nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
getStoreStats         | .   sto 200 200 200 200 200 no  200 200 exp .   200 sto sto 200
getStoreStats hidden  | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getStoreStats public  | 200 200 200 200 200 200 200 200 200 200 exp .   200 sto 200 sto
compactStore          | .   sto no  no  no  no  no  no  202 202 exp .   no  sto sto 202
compactStore dry      | .   sto no  no  no  no  no  no  200 200 exp .   no  sto sto 200
compactStore hidden   | .   sto sto sto sto sto sto sto sto 202 exp .   sto sto sto sto
compactStore public   | .   no  no  no  no  no  no  no  no  202 exp .   no  sto no  sto
compactStore system   | nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
dropStore             | .   sto no  no  no  no  no  no  200 200 exp .   no  sto sto 200
dropStore hidden      | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
dropStore public      | .   no  no  no  no  no  no  no  no  200 exp .   no  sto no  sto
dropStore system      | nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
listIndexes           | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
listIndexes hidden    | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getIndex              | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getIndex hidden       | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getIndex none         | .   sto idx idx idx idx idx idx idx idx exp .   idx sto sto idx
declareIndex          | .   sto no  no  no  no  no  no  201 201 exp .   no  sto sto 201
declareIndex there    | .   sto no  no  no  no  no  no  200 200 exp .   no  sto sto 200
declareIndex hidden   | .   sto sto sto sto sto sto sto sto 201 exp .   sto sto sto sto
declareIndex public   | .   no  no  no  no  no  no  no  no  201 exp .   no  sto no  sto
declareIndex system   | nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
dropIndex             | .   sto no  no  no  no  no  no  200 200 exp .   no  sto sto 200
dropIndex none        | .   sto no  no  no  no  no  no  idx idx exp .   no  sto sto idx
dropIndex hidden      | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
dropIndex public      | .   no  no  no  no  no  no  no  no  idx exp .   no  sto no  sto
listRecords found     | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
listRecords found hidden| .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
listRecords found no index| .   sto idx idx idx idx idx idx idx idx exp .   idx sto sto idx
followReferences      | .   sto 200 200 200 200 200 rec 200 200 exp .   200 sto sto 200
followReferences v/1  | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
followReferences hidden| .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
findReferrers         | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
findReferrers hidden  | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
addRecord             | .   sto no  201 201 201 no  no  201 201 exp .   no  sto sto 201
addRecord k/9         | .   sto no  201 201 201 201 no  201 201 exp .   no  sto sto 201
addRecord public      | .   no  no  no  no  no  no  no  no  201 exp .   no  sto no  sto
putRecord             | .   sto no  201 201 201 no  no  201 201 exp .   no  sto sto 201
putRecord k/9         | .   sto no  201 201 201 201 no  201 201 exp .   no  sto sto 201
putRecord v/9         | .   sto no  201 201 201 no  201 201 201 exp .   no  sto sto 201
putRecord hidden      | .   sto sto sto sto sto sto sto sto 201 exp .   sto sto sto sto
putRecord system      | nam nam nam nam nam nam nam nam nam nam exp .   nam nam nam nam
getRecord             | .   sto 200 200 200 200 200 rec 200 200 exp .   200 sto sto 200
getRecord v/1         | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getRecord of the past | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getRecord a/1 of the past| .   sto 200 200 200 200 200 rec 200 200 exp .   200 sto sto 200
getRecord hidden      | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
deleteRecord          | .   sto no  200 no  no  no  no  200 200 exp .   no  sto sto 200
deleteRecord k/1      | .   sto no  200 no  no  200 no  200 200 exp .   no  sto sto 200
deleteRecord o/1      | .   sto no  200 no  200 no  no  200 200 exp .   no  sto sto 200
deleteRecord v/1      | .   sto no  200 no  no  no  200 200 200 exp .   no  sto sto 200
deleteRecord none     | .   sto no  rec no  rec no  no  rec rec exp .   no  sto sto rec
deleteRecord hidden   | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
listRecords           | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
listRecords lines     | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
listRecords of the past| .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
listRecords of the hidden past| .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getDiff               | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getDiff lines         | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getDiff hidden        | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
listRecords hidden    | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
write                 | .   sto no  200 200 200 no  200 200 200 exp .   no  sto sto 200
write both            | .   sto no  200 no  no  no  no  200 200 exp .   no  sto sto 200
write each            | .   sto no  200 200 200 200 200 200 200 exp .   no  sto sto 200
write hidden          | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getChanges            | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getChanges poll       | .   sto 200 200 200 200 200 200 200 200 exp .   200 sto sto 200
getChanges hidden     | .   sto sto sto sto sto sto sto sto 200 exp .   sto sto sto sto
getChanges public     | 200 200 200 200 200 200 200 200 200 200 exp .   200 sto 200 sto
getMe                 | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
makeTicket            | .   201 201 201 201 201 201 201 201 201 exp .   201 201 201 201
login                 | log log log log log log log log log log log log log log log log
logout                | 200 no  no  no  no  no  no  no  no  no  200 200 no  no  no  no
changePassword        | .   log log log log log log log log log exp .   no  no  no  no
setup                 | no  no  no  no  no  no  no  no  no  no  no  no  no  no  no  no
beginProviderLogin    | nof nof nof nof nof nof nof nof nof nof nof nof nof nof nof nof
finishProviderLogin   | nof nof nof nof nof nof nof nof nof nof nof nof nof nof nof nof
listUsers             | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
getUser               | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
getUser none          | .   no  no  no  no  no  no  no  no  acc exp .   no  no  no  no
putUser               | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
putUser new           | .   no  no  no  no  no  no  no  no  201 exp .   no  no  no  no
deleteUser            | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
listGroups            | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
putGroup              | .   no  no  no  no  no  no  no  no  201 exp .   no  no  no  no
deleteGroup           | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
addMember             | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
removeMember          | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
readAudit             | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
listBackups           | .   no  no  no  no  no  no  no  no  uns exp .   no  no  no  no
makeBackup            | .   no  no  no  no  no  no  no  no  uns exp .   no  no  no  no
getBackup             | .   no  no  no  no  no  no  no  no  uns exp .   no  no  no  no
downloadBackup        | .   no  no  no  no  no  no  no  no  uns exp .   no  no  no  no
readAudit lines       | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
listTokens            | .   200 200 200 200 200 200 200 200 200 exp .   200 200 200 200
listTokens of another | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
makeToken             | .   201 201 201 201 201 201 201 201 201 exp .   no  no  no  no
makeToken for another | .   no  no  no  no  no  no  no  no  201 exp .   no  no  no  no
revokeToken           | .   200 200 200 200 200 200 200 200 200 exp .   200 200 200 200
revokeToken of another | .   acc acc acc acc acc acc acc acc 200 exp .   acc acc acc acc
revokeToken none      | .   acc acc acc acc acc acc acc acc acc exp .   acc acc acc acc
listGrants            | .   200 200 200 200 200 200 200 200 200 exp .   200 200 200 200
listGrants notes      | .   no  no  no  no  no  no  no  200 200 exp .   no  no  no  200
listGrants none       | .   no  no  no  no  no  no  no  no  200 exp .   no  no  no  no
addGrant              | .   no  no  no  no  no  no  no  201 201 exp .   no  no  no  201
addGrant hidden       | .   no  no  no  no  no  no  no  no  201 exp .   no  no  no  no
addGrant all          | .   no  no  no  no  no  no  no  no  201 exp .   no  no  no  no
removeGrant           | .   acc 200 acc acc acc acc acc 200 200 exp .   acc acc acc 200
removeGrant hidden    | .   acc acc acc acc acc acc acc acc 200 exp .   acc acc acc acc
removeGrant none      | .   acc acc acc acc acc acc acc acc acc exp .   acc acc acc acc
listInvitations       | .   200 200 200 200 200 200 200 200 200 exp .   200 200 200 200
listInvitations notes | .   no  no  no  no  no  no  no  200 200 exp .   no  no  no  200
addInvitation         | .   no  no  no  no  no  no  no  201 201 exp .   no  no  no  201
addInvitation hidden  | .   no  no  no  no  no  no  no  no  201 exp .   no  no  no  no
acceptInvitation      | .   200 200 200 200 200 200 200 200 200 .   .   no  no  no  no
acceptInvitation none | inv inv inv inv inv inv inv inv inv inv inv inv inv inv inv inv
acceptInvitation new  | 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200
removeInvitation      | .   acc acc acc acc acc acc acc 200 200 exp .   acc acc acc 200
removeInvitation none | .   acc acc acc acc acc acc acc acc acc exp .   acc acc acc acc
"""


def rows() -> dict[str, dict[str, str]]:
    """Read the table: for each row what each person is answered."""
    found = {}
    for line in TABLE.strip().splitlines():
        name, _, cells = line.partition("|")
        found[name.strip()] = dict(zip(PEOPLE, cells.split(), strict=True))
    return found


def test_every_operation_has_a_row_and_every_row_a_request() -> None:
    assert {name.partition(" ")[0] for name in rows()} == {operation.name for operation in OPERATIONS}
    assert set(rows()) == set(REQUESTS)


def path_of(world: Town, asked: Asked, name: str) -> str:
    """Return the path with what it names filled in."""
    path = asked.path.replace("{self}", world.ids.get(name, "t_0"))
    for what, identity in world.ids.items():
        path = path.replace("{" + what + "}", identity)
    return path


async def send(world: Town, row: str, name: str) -> Answered:
    """Send somebody's request of a row."""
    asked, operation = REQUESTS[row], next(it for it in OPERATIONS if it.name == row.partition(" ")[0])
    body = asked.body
    if isinstance(body, dict) and body.get("code") == "{code}":
        body = {**body, "code": world.code}
    return await world.ask(name, operation.method, path_of(world, asked, name), body, asked.headers)


def cell_of(answer: Answered) -> str:
    """Return what the table says of such an answer."""
    if answer.headers.get("content-type") != "application/problem+json":
        return str(answer.status)
    code = answer.json["code"]
    assert answer.status == ERROR_CODES[code].http_status
    return next((cell for cell, meant in CODES.items() if meant == code), code)


async def told(row: str) -> dict[str, str]:
    """Return what each person is answered. Who changes something does so in a town of his own."""
    found: dict[str, str] = {}
    while len(found) < len(PEOPLE):
        async with town() as world:
            for name in PEOPLE[len(found) :]:
                answer = await send(world, row, name)
                found[name] = cell_of(answer)
                if row in _COUNTED or (answer.status < 400 and not row.startswith(_READS)):
                    break
    return found


@pytest.mark.parametrize("row", REQUESTS)
async def test_everybody_is_answered_as_the_table_says(row: str) -> None:
    assert await told(row) == rows()[row]


#: Which stores each of them is told of.
LISTED = {
    "nobody": ["public"],
    "other": ["public"],
    "reader": ["notes", "public"],
    "keyed": ["notes", "public"],
    "viewed": ["notes", "public"],
    "owner": ["notes", "public"],
    "admin": ["hidden", "notes", "public"],
    "readtoken": ["notes", "public"],
    "boundtoken": [],
    "asidetoken": ["public"],
    "withintoken": ["notes"],
}


async def test_everybody_is_told_of_the_stores_of_which_he_may_see_something() -> None:
    async with town() as world:
        for name, stores in LISTED.items():
            told = (await world.get(name, "/v1/stores")).json["stores"]
            assert [store["name"] for store in told] == stores, name


async def test_grants_and_invitations_are_listed_for_those_who_could_take_them_back() -> None:
    async with town() as world:
        own = {"reader": ["user:reader"], "nobody": None, "other": [], "boundtoken": ["user:owner"]}
        for name, grantees in own.items():
            answer = await world.get(name, "/v1/grants")
            if grantees is None:
                assert answer.status == 401
                continue
            assert [grant["to"] for grant in answer.json["grants"]] == grantees, name
            assert (await world.get(name, "/v1/invitations")).json["invitations"] == []
        for name in ("owner", "withintoken"):
            stores = {grant["store"] for grant in (await world.get(name, "/v1/grants")).json["grants"]}
            assert stores == {"notes"}, name
            assert len((await world.get(name, "/v1/invitations")).json["invitations"]) == 1


async def test_no_answer_has_a_secret_but_that_of_what_was_just_made() -> None:
    async with town() as world:
        secrets = [token for token in world.tokens.values() if token is not None] + [world.code]
        for row, asked in REQUESTS.items():
            if row.startswith(_READS):
                text = (await send(world, row, "admin")).content.decode()
                assert not [secret for secret in secrets if secret in text], asked.path
