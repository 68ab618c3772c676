"""Ctrl-C while a task awaits the store: a transaction is there as a whole or not at all, and work goes on."""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import suppress

import pytest
from chances import dice, more

from perdure import Persistable, make_store

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers that send signals"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # a task that nobody ends
]


class Account(Persistable):
    def __init__(self, money):
        self.money = money


async def move(store, first, second, rounds):
    """Move money, a few times: each move is one transaction."""
    for _ in range(rounds):
        async with store.transaction():
            one, other = await store.aload(first), await store.aload(second)
            one.money -= 1
            await asyncio.sleep(0)
            other.money += 1


def by_runner(store, first, second):
    """As most programs do it: Ctrl-C cancels the task."""
    try:
        asyncio.run(move(store, first, second, 3))
    except RuntimeError as error:  # asyncio's, in place of a Ctrl-C that comes while it ends its threads
        if "loop stopped before Future completed" not in str(error):
            raise
        raise KeyboardInterrupt from error


def by_loop(store, first, second):
    """By hand: Ctrl-C comes out of the loop, and nothing ever ends the task."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(move(store, first, second, 3))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def interrupted(chance, lasts, work, *arguments):
    """Do the work with a Ctrl-C at a random moment of it; whether it came before the end."""
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, chance.random() * lasts))
            work(*arguments)
            signal.setitimer(signal.ITIMER_REAL, 0)
            return False
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.collect()


@pytest.mark.parametrize("work", [by_runner, by_loop])
def test_signals_while_tasks_wait(work, tmp_path):
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    chance = dice()
    came, rounds, tried = 0, more(40), 0
    with make_store(url) as store:
        first, second = store.save_many([Account(1000), Account(0)])
        while tried < rounds or (came <= 10 and tried < 50 * rounds):  # the faster the work, the fewer come in time
            tried += 1
            came += interrupted(chance, 0.02, work, store, first, second)
            with make_store(url) as other:
                there = [other.load(first).money, other.load(second).money]
            assert sum(there) == 1000
            assert [store.load(first).money, store.load(second).money] == there
            with store.transaction():
                store.load(first).money -= 5
                store.load(second).money += 5
        assert store.load(second).money >= 5 * tried
    assert came > 10, "no signal came in time, so the test would prove nothing"
