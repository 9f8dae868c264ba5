"""Whoever loses his access gets nothing from the moment on at which the loss is told, whatever was under way.

Each trial brings one client into one phase, of a subscription, a stream, a request or a write, while others write; then
takes something from him in one of all ways. After the call that takes it has returned: no change that he may not see
is written to him, nothing of his is committed that was not, he is told what happened, and nobody else misses anything.
"""

import os
import random
from collections import Counter
from itertools import product

import pytest

from syncline_protocol.messages import Ended, Subscribe
from tests.support.engine import seqs_of

from .guarded import Guarded, GuardedPeer, HeldStorage, guarded, turns
from .losses import LOSSES, Loss, subject_of
from .phases import PHASES, QUIET, UNFOLLOWED
from .trial import Trial

#: So many trials; `SYNCLINE_TEST_TRIALS` names another number. Each phase meets each loss at least once.
_TRIALS = int(os.environ.get("SYNCLINE_TEST_TRIALS", "300"))

#: So many records there are before anybody follows the store.
_BEFORE = 20


async def _run(phase: str, loss: Loss, chance: random.Random, *, tells: bool = True) -> None:
    """Run one trial. Raises AssertionError if the promise is broken."""
    async with guarded(tells=tells) as world:
        storage = world.storage
        assert isinstance(storage, HeldStorage)
        root = world.peer(await world.user("root", is_admin=True))
        prefix = "k/" if chance.random() < 0.4 else None
        subject = await subject_of(world, loss, prefix)
        for number in range(_BEFORE):
            _write_as(root, number)
        await turns(6)
        assert (await storage.info("notes")).head.seq == _BEFORE
        others: list[GuardedPeer] = []
        if phase not in UNFOLLOWED:
            others.append(await _other(world, "bo", None))
            # What everyone has is hers as well.
            others.append(await _other(world, "mia", None if loss.grantee == "everyone" else "k/"))
        storage.append_turns = chance.randrange(1, 6)
        trial = Trial(world, subject, loss, chance)
        try:
            await _play(trial, phase, root)
            trial.check()
            for other in others:
                _check_other(other, loss)
        finally:
            await trial.leave()
        assert world.hub.admission.open == sum(
            peer is not None and peer.closed_with is None and not peer.aborted for peer in (*others, root, trial.peer)
        ), "a place is still taken"


async def _play(trial: Trial, phase: str, root: GuardedPeer) -> None:
    chance = trial.chance
    is_quiet = phase in QUIET
    if not is_quiet and chance.random() < 0.5:
        trial.write_by(lambda number: _write_as(root, 100 + number))
    await PHASES[phase](trial)
    if chance.random() < 0.8:
        trial.write_by(lambda number: _write_as(root, 10_000 + number))
    await turns(0 if is_quiet else chance.randrange(4))
    await trial.lose()
    await trial.end()


def _write_as(peer: GuardedPeer, number: int) -> None:
    side = "ab"[number % 2]
    peer.add(number + 1, f"k/{side}/{number + 1}", f'"secret-{side}"'.encode())


async def _other(world: Guarded, name: str, prefix: str | None) -> GuardedPeer:
    peer = world.peer(await world.user(name))
    await world.grant(f"user:{name}", role="reader", read_prefix=prefix)
    # What he would read would be at hand for everybody.
    peer.send(Subscribe(900, "notes", "now"))
    await turns(8)
    return peer


def _check_other(peer: GuardedPeer, loss: Loss) -> None:
    messages = peer.take()
    seqs = seqs_of(messages)
    assert seqs == list(range(_BEFORE + 1, _BEFORE + len(seqs) + 1)), "somebody else misses something"
    assert peer.closed_with is None
    if loss.kind == "dropped":
        assert [message.reason for message in messages if isinstance(message, Ended)] == ["store_dropped"]
        return
    (subscription,) = peer.connection.subscriptions
    assert _BEFORE + len(seqs) == subscription.feed.tail.head.seq


# --- tests ---


async def test_whoever_loses_his_access_gets_nothing_more_whatever_is_under_way() -> None:
    seed = int(os.environ.get("SYNCLINE_TEST_SEED", random.randrange(2**32)))
    print(f"seed {seed}, {_TRIALS} trials")
    chance = random.Random(seed)
    happened: Counter[tuple[str, str]] = Counter()
    combinations = list(product(PHASES, LOSSES))
    while sum(happened.values()) < max(_TRIALS, len(combinations)):
        chance.shuffle(combinations)
        for phase, loss in combinations:
            trial_seed = chance.randrange(2**32)
            try:
                await _run(phase, LOSSES[loss], random.Random(trial_seed))
            except BaseException as error:
                error.add_note(f"{phase!r} x {loss!r}, trial seed {trial_seed}, seed {seed}")
                raise
            happened[phase, loss] += 1
    assert set(happened) == set(product(PHASES, LOSSES)), "a run counts only if everything happened"


#: Connections and streams see by themselves that their token has ended; a reader sees what a writer does.
_UNNOTICED = {
    ("sse is live", "token expired"),
    ("subscription is live", "token expired"),
    ("subscription is live", "role changed"),
    ("sse is live", "role changed"),
}


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.kind != "dropped"])
@pytest.mark.parametrize("phase", ["subscription is live", "outbox is flushed", "sse is live"])
async def test_a_server_that_does_not_tell_live_connections_is_found_out(phase: str, loss: str) -> None:
    found = 0
    for seed in range(10):
        try:
            await _run(phase, LOSSES[loss], random.Random(seed), tells=False)
        except AssertionError:
            found += 1
    assert found or (phase, loss) in _UNNOTICED
