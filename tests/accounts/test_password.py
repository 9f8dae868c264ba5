"""Passwords: the rules for a new one, hashing beside the event loop, and what a wrong or unknown one costs."""

import asyncio
import threading

import argon2
import pytest

from syncline_server.accounts.password import (
    HashingOverloaded,
    PasswordHasher,
    PasswordRefused,
    check_password,
)

GOOD = "correct horse battery"


class HeldUp(argon2.PasswordHasher):
    """Hashes at once, but only when let, and remembers in which threads it did."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.may_go_on = threading.Event()
        self.runs = threading.Semaphore(0)
        self.threads: set[str] = set()
        self.verified: list[str | bytes] = []

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.threads.add(threading.current_thread().name)
        self.runs.release()
        self.may_go_on.wait()
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.verified.append(hash)
        return super().verify(hash, password)


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "nine char",
        "alice@example.com",
        "Password123",
        "aaaaaaaaaaaaaaa",
        "ababababababab",
        "Ab1!" * 75 + "ÿ" * 120,
        "y" * 100_000,
        "lone \ud800 surrogate",
    ],
    ids=["short", "nine", "name", "common", "one character", "two characters", "bytes", "huge", "surrogate"],
)
def test_a_password_that_breaks_a_rule_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(PasswordRefused) as refused:
        check_password(text, "Alice@example.com")
    assert text not in str(refused.value)


@pytest.mark.parametrize("text", [GOOD, "ten chars!", "パスワードは十文字以上です", "Ab1!" * 128])
def test_a_password_that_keeps_the_rules_is_accepted(text: str) -> None:
    check_password(text, "alice")


def test_length_is_counted_after_normalisation() -> None:
    decomposed = "e\u0301" * 5 + "abcd"  # nine letters as they are seen, fourteen code points
    with pytest.raises(PasswordRefused, match="at least 10 characters"):
        check_password(decomposed, "alice")


async def test_only_the_right_password_is_verified() -> None:
    hasher = PasswordHasher()
    stored = await hasher.hash(GOOD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.verify(stored, GOOD)
    assert not await hasher.verify(stored, GOOD + " ")
    assert not await hasher.verify(stored, GOOD.upper())
    assert stored != await hasher.hash(GOOD)
    await hasher.close()


async def test_the_same_letters_typed_otherwise_are_the_same_password() -> None:
    hasher = PasswordHasher()
    stored = await hasher.hash("caf\u00e9 \u21161 \uff46\uff55\uff4c\uff4c width")
    assert await hasher.verify(stored, "cafe\u0301 No1 full width")
    await hasher.close()


async def test_an_unknown_user_costs_the_same_work_as_a_known_one() -> None:
    argon2id = HeldUp()
    hasher = PasswordHasher(argon2id)
    assert not await hasher.verify(None, GOOD)
    assert not await hasher.verify(None, "z" * 10_000)
    assert not await hasher.verify("never looked at", "z" * 10_000)
    dummies = set(argon2id.verified)
    assert len(argon2id.verified) == 3
    assert len(dummies) == 1
    assert not hasher.needs_rehash(str(dummies.pop()))
    await hasher.close()


async def test_the_dummy_hash_has_the_costs_of_real_ones() -> None:
    hasher = PasswordHasher()
    assert not await hasher.verify(None, GOOD)
    assert not hasher.needs_rehash(hasher._unmatchable)
    await hasher.close()


async def test_a_hash_of_lower_costs_is_still_verified_and_asks_to_be_replaced() -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)
    hasher = PasswordHasher()
    assert await hasher.verify(old, GOOD)
    assert hasher.needs_rehash(old)
    assert not hasher.needs_rehash(await hasher.hash(GOOD))
    await hasher.close()


async def test_a_damaged_hash_is_an_error_and_not_a_wrong_password() -> None:
    hasher = PasswordHasher()
    with pytest.raises(argon2.exceptions.InvalidHashError):
        await hasher.verify("plain text", GOOD)
    await hasher.close()


async def test_two_threads_hash_while_the_loop_goes_on_and_the_call_beyond_the_queue_is_refused() -> None:
    argon2id = HeldUp()
    hasher = PasswordHasher(argon2id, waiting_max=3)
    calls = [asyncio.create_task(hasher.hash(GOOD)) for _ in range(5)]
    for _ in range(2):
        await asyncio.to_thread(argon2id.runs.acquire)
    with pytest.raises(HashingOverloaded):
        await hasher.hash(GOOD)
    assert len(argon2id.threads) == 2
    assert threading.current_thread().name not in argon2id.threads
    argon2id.may_go_on.set()
    assert len(set(await asyncio.gather(*calls))) == 5
    assert await hasher.hash(GOOD)
    await hasher.close()


async def test_a_caller_that_goes_away_keeps_its_place_until_its_thread_is_free() -> None:
    argon2id = HeldUp()
    hasher = PasswordHasher(argon2id, waiting_max=0)
    calls = [asyncio.create_task(hasher.hash(GOOD)) for _ in range(2)]
    for _ in range(2):
        await asyncio.to_thread(argon2id.runs.acquire)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    with pytest.raises(HashingOverloaded):
        await hasher.hash(GOOD)
    argon2id.may_go_on.set()
    await hasher.close()


async def test_closing_cancels_what_waits_and_later_calls_fail() -> None:
    argon2id = HeldUp()
    hasher = PasswordHasher(argon2id)
    calls = [asyncio.create_task(hasher.hash(GOOD)) for _ in range(3)]
    for _ in range(2):
        await asyncio.to_thread(argon2id.runs.acquire)
    closing = asyncio.create_task(hasher.close())
    with pytest.raises(asyncio.CancelledError):
        await calls[2]
    argon2id.may_go_on.set()
    await closing
    assert all(hash.startswith("$argon2id$") for hash in await asyncio.gather(*calls[:2]))
    with pytest.raises(RuntimeError):
        await hasher.hash(GOOD)
