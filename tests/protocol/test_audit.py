"""The chain of the audit log: whatever is done to it, somebody who has its head can tell."""

import hashlib
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syncline_protocol.audit import (
    ACTIONS,
    DETAILS_MAX,
    ENTRY_BYTES_MAX,
    NO_HASH,
    NO_HEAD,
    TEXT_CHARS_MAX,
    AuditBroken,
    AuditEntry,
    AuditHead,
    SecretInEntry,
    Verified,
    encode_entry,
    entry_hash,
    make_entry,
    parse_head,
    verify,
)

TOKEN = "syncline_p_" + "Ab-_" * 10 + "xyz"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


def chain(count: int) -> list[bytes]:
    """Make a chain of so many entries."""
    texts: list[bytes] = []
    head = NO_HEAD
    for n in range(count):
        entry = make_entry(head, 1_000 + n, "login.ok", actor="alice", subject=f"s{n}", address="192.0.2.7")
        texts.append(encode_entry(entry))
        head = AuditHead(n, entry_hash(texts[-1]))
    return texts


def head_of(texts: list[bytes]) -> AuditHead:
    """Return the head of a chain."""
    return AuditHead(len(texts) - 1, entry_hash(texts[-1])) if texts else NO_HEAD


def broken(texts: list[bytes], head: AuditHead | None = None) -> AuditBroken:
    """Verify what is broken; return how."""
    with pytest.raises(AuditBroken) as raised:
        verify(texts, head)
    return raised.value


def altered(text: bytes, **members: object) -> bytes:
    """Return an entry with other members, as somebody would write it who may write to the log."""
    return msgspec.json.encode({**msgspec.json.decode(text), **members})


# --- a chain that is whole ---


def test_a_whole_chain_is_counted_and_its_head_and_times_are_told() -> None:
    texts = chain(3)
    assert verify(texts) == Verified(3, head_of(texts), 1_000, 1_002)
    assert [json.loads(text)["prev"] for text in texts] == [NO_HASH, *(entry_hash(text) for text in texts[:-1])]


def test_an_empty_log_is_a_chain_without_times() -> None:
    assert verify([]) == Verified(0, NO_HEAD, None, None)
    assert verify([], NO_HEAD).count == 0


def test_a_head_that_was_noted_at_any_time_is_found_in_the_chain_that_grew_since() -> None:
    texts = chain(5)
    for length in range(6):
        assert verify(texts, head_of(texts[:length])).count == 5


def test_the_format_is_this_text() -> None:
    entry = make_entry(NO_HEAD, 5, "token.add", actor=None, subject="t_1", outcome="begun", detail={"title": "ci\n"})
    text = encode_entry(entry)
    assert text.decode() == (
        '{"n":0,"time":5,"action":"token.add","actor":null,"subject":"t_1","outcome":"begun","address":null,'
        f'"detail":{{"title":"ci\\n"}},"prev":"{"0" * 64}"}}'
    )
    assert entry_hash(text) == hashlib.sha256(text).hexdigest()


def test_members_that_a_later_version_adds_are_covered_by_the_hash_and_otherwise_ignored() -> None:
    texts = [altered(chain(1)[0], session="s")]
    texts.append(altered(chain(2)[1], prev=entry_hash(texts[0])))
    assert verify(texts).count == 2
    texts[0] = altered(texts[0], session="x")
    assert broken(texts).n == 1


# --- a chain that is not ---


@pytest.mark.parametrize("n", range(4))
def test_an_altered_entry_is_found_at_the_next_one_or_by_the_head(n: int) -> None:
    texts = chain(4)
    head = head_of(texts)
    texts[n] = altered(texts[n], actor="bob")
    assert broken(texts, head).n == min(n + 1, 3)
    assert "altered" in broken(texts, head).reason


def test_blanks_in_an_entry_are_an_alteration_too() -> None:
    texts = chain(3)
    texts[1] = texts[1].replace(b":", b": ", 1)
    assert broken(texts).n == 2


@pytest.mark.parametrize("n", range(3))
def test_a_missing_entry_is_named(n: int) -> None:
    texts = chain(4)
    del texts[n]
    assert (broken(texts).n, broken(texts).reason) == (n, f"it is missing; entry {n + 1} is in its place")


def test_entries_in_another_order_are_found() -> None:
    texts = chain(4)
    texts[1], texts[2] = texts[2], texts[1]
    assert broken(texts).n == 1


def test_a_repeated_entry_is_found() -> None:
    texts = chain(3)
    texts.insert(2, texts[1])
    assert "out of order or repeated" in broken(texts).reason


def test_an_entry_that_was_put_in_and_the_rest_renumbered_is_found() -> None:
    texts = chain(3)
    rest = [altered(text, n=n) for n, text in enumerate(texts[1:], 2)]
    forged = altered(texts[1], subject="forged")
    assert broken([texts[0], forged, *rest]).n == 2


def test_the_first_entry_has_zeros_for_the_one_before_it() -> None:
    assert broken([altered(chain(1)[0], prev="1" * 64)]).reason == "its prev has to be zeros"


@pytest.mark.parametrize("length", range(4))
def test_a_log_that_was_cut_off_is_found_by_whoever_kept_its_head(length: int) -> None:
    texts = chain(4)
    assert verify(texts[:length]).count == length
    error = broken(texts[:length], head_of(texts))
    assert (error.n, error.reason) == (length, "the log ends before it, but there was an entry 3")


def test_a_chain_that_was_written_anew_is_found_by_whoever_kept_a_head() -> None:
    forged: list[bytes] = []
    for text in chain(6):
        forged.append(altered(text, actor="bob", prev=head_of(forged).hash))
    assert verify(forged).count == 6
    assert broken(forged, head_of(chain(3))).n == 2


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"n":0}',
        b"[" * 100_000,
        b'{"a":' * 5_000,
        altered(chain(1)[0], n=-1),
        altered(chain(1)[0], n=True),
        altered(chain(1)[0], prev="A" * 64),
        altered(chain(1)[0], prev="0" * 64 + "\n"),
        altered(chain(1)[0], outcome="maybe"),
        altered(chain(1)[0], detail={"a": 1}),
        altered(chain(1)[0], subject="x" * ENTRY_BYTES_MAX),
    ],
)
def test_what_is_no_entry_breaks_the_chain(text: bytes) -> None:
    assert broken([text]).n == 0


def test_the_message_names_the_entry_and_the_reason() -> None:
    assert str(AuditBroken(7, "it is missing")) == "the audit log is broken at entry 7: it is missing"


Edit = Callable[[list[bytes]], list[bytes]]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """Anything that can be done to the lines of a log without the knowledge of a hash function."""
    at, to = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    byte, flip = draw(st.integers(0, 200)), draw(st.integers(1, 255))
    kind = draw(st.sampled_from(["flip", "delete", "move", "repeat", "cut"]))

    def edit(texts: list[bytes]) -> list[bytes]:
        texts = list(texts)
        if kind == "flip":
            line = bytearray(texts[at])
            line[byte % len(line)] ^= flip
            texts[at] = bytes(line)
        elif kind == "delete":
            del texts[at]
        elif kind == "move":
            texts.insert(to, texts.pop(at))
        elif kind == "repeat":
            texts.insert(to, texts[at])
        else:
            del texts[at:]
        return texts

    return edit


@given(st.lists(edits(), min_size=1, max_size=1))
def test_no_edit_gets_past_somebody_who_has_the_head(made: list[Edit]) -> None:
    texts = chain(10)
    edited = texts
    for edit in made:
        edited = edit(edited)
    assume(edited != texts)
    assert 0 <= broken(edited, head_of(texts)).n <= 10


# --- heads as text ---


def test_a_head_is_written_and_read_as_number_and_hash() -> None:
    for head in (NO_HEAD, head_of(chain(2))):
        assert parse_head(str(head)) == head


@pytest.mark.parametrize("text", ["", "1", "1:", ":" + NO_HASH, "01:" + NO_HASH, "-2:" + NO_HASH, "1:" + "A" * 64])
def test_another_text_is_no_head(text: str) -> None:
    with pytest.raises(ValueError, match="N:HASH"):
        parse_head(text)


# --- what gets into an entry ---


def entry_with(text: str) -> AuditEntry:
    """Make an entry that has the text everywhere."""
    return make_entry(
        NO_HEAD, 1, "login.failed", actor=text, subject=text, address=text, detail={text[:1000] or "x": text}
    )


@given(st.text(st.characters(exclude_categories=[]), max_size=600))
def test_any_text_gives_an_entry_on_one_line_within_bounds(text: str) -> None:
    encoded = encode_entry(entry_with(text))
    assert not re.search(rb"[\x00-\x1f]", encoded)
    assert len(encoded) <= ENTRY_BYTES_MAX
    assert verify([encoded]).count == 1


def test_the_longest_entry_is_within_the_bound_that_verification_has() -> None:
    text = "\x01" * 1000
    detail = {f"{n:02}{text}": text for n in range(DETAILS_MAX)}
    entry = make_entry(NO_HEAD, 1, "login.failed", actor=text, subject=text, address=text, detail=detail)
    assert 45_000 < len(encode_entry(entry)) <= ENTRY_BYTES_MAX
    assert len(entry.subject or "") == TEXT_CHARS_MAX


@pytest.mark.parametrize("secret", [TOKEN, *(f"syncline_{kind}_{'x' * 43}" for kind in "stic"), JWT])
@pytest.mark.parametrize("around", ["{}", "Bearer {}", "." * 250 + "{}", "{}, {}"])
def test_a_secret_never_gets_in_but_what_hash_it_has(secret: str, around: str) -> None:
    text = around.format(secret, secret)
    encoded = encode_entry(entry_with(text)).decode()
    assert secret[:20] not in encoded
    assert secret[-20:] not in encoded
    if not around.startswith("..."):
        assert f"[secret {entry_hash(secret.encode())[:16]}]" in encoded


@given(st.integers(0, 300), st.sampled_from([TOKEN, JWT]))
def test_wherever_a_text_is_cut_no_part_of_a_secret_stays(before: int, secret: str) -> None:
    subject = make_entry(NO_HEAD, 1, "logout", actor=None, subject="." * before + secret).subject
    assert subject is not None
    assert not any(part in subject for part in (secret[i : i + 12] for i in range(len(secret) - 12)))


def test_names_that_only_resemble_secrets_are_kept() -> None:
    for name in ("syncline_x_1", "t_0123456789abcdef", "alice.smith@example.com", "jwt:alice", "eyewitness.reporters"):
        assert make_entry(NO_HEAD, 1, "logout", actor=name).actor == name


@pytest.mark.parametrize("secret", [TOKEN, JWT])
@pytest.mark.parametrize("field", ["actor", "subject", "address", "detail", "name of a detail"])
def test_an_entry_that_was_made_by_hand_with_a_secret_in_it_is_not_written(field: str, secret: str) -> None:
    members: dict[str, object] = {"actor": None, "subject": None, "address": None, "detail": {}}
    members |= {"detail": {"a": secret}} if field == "detail" else {}
    members |= {"detail": {secret: "a"}} if field == "name of a detail" else {}
    members |= {field: secret} if field in ("actor", "subject", "address") else {}
    whole = {"n": 0, "time": 1, "action": "logout", "outcome": "ok", "prev": NO_HASH, **members}
    entry = msgspec.convert(whole, AuditEntry)
    with pytest.raises(SecretInEntry) as raised:
        encode_entry(entry)
    assert secret not in str(raised.value)


def test_an_action_that_is_not_in_the_table_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="no action"):
        make_entry(NO_HEAD, 1, "login.maybe", actor=None)
    with pytest.raises(ValueError, match="at most 16 details"):
        make_entry(NO_HEAD, 1, "logout", actor=None, detail={str(n): "" for n in range(17)})


def test_actions_are_dotted_words_in_order_and_each_has_a_meaning() -> None:
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)?", action) and meaning for action, meaning in ACTIONS.items())
    assert all(one < other for one, other in pairwise(ACTIONS))


def test_the_reference_has_every_action_with_its_meaning() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "audit.md").read_text()
    table = text.partition("## Actions")[2].partition("##")[0]
    assert dict(re.findall(r"^\| `([a-z.]+)` \| (.*) \|$", table, re.M)) == ACTIONS


def test_the_program_of_the_reference_verifies_what_we_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "audit.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    texts = chain(5)
    file = tmp_path / "audit.ndjson"
    file.write_bytes(b"".join(each + b"\n" for each in texts))
    exec(program, {})
    assert capsys.readouterr().out == f"4 {entry_hash(texts[-1])}\n"
    texts[2] = altered(texts[2], actor="bob")
    file.write_bytes(b"".join(each + b"\n" for each in texts))
    with pytest.raises(AssertionError, match="broken at entry 3"):
        exec(program, {})
