"""Four processes of eight threads move money between accounts; whoever looks, whenever, sees the same sum.

- `PERDURE_TEST_SECONDS` is for how long; a few seconds unless it says otherwise.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import servers

from perdure import ConflictError, Persistable, make_store
from perdure.upkeep import check

SECONDS = float(os.environ.get("PERDURE_TEST_SECONDS", "6"))  # before a test has an environment of its own
PROCESSES, THREADS = 4, 8
ACCOUNTS, EACH = 40, 100


class Account(Persistable):
    def __init__(self, money: int):
        self.money = money
        self.payments = 0


@pytest.fixture(params=["sqlite", *servers.KINDS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:////{(tmp_path / 'bank.db').as_posix().lstrip('/')}"
        return
    name = servers.table_of(tmp_path)
    yield f"{servers.url_of(request.param)}#table={name}"
    servers.drop_tables(request.param, {name})


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 120)
def test_the_sum_never_changes(url: str) -> None:
    with make_store(url) as store:
        with store.transaction():
            store.roots["accounts"] = [Account(EACH) for _ in range(ACCOUNTS)]
        context = get_context("spawn")
        counts = context.Queue()
        until = time.time() + SECONDS + 2  # until all have started
        processes = [context.Process(target=work, args=(url, seed, until, counts)) for seed in range(PROCESSES)]
        for process in processes:
            process.start()
        told = [counts.get(timeout=SECONDS * 2 + 100) for _ in processes]
        for process in processes:
            process.join()
            assert process.exitcode == 0
        assert [errors for *_, errors in told] == [[]] * PROCESSES
        moved, looked, conflicts = (sum(each[place] for each in told) for place in range(3))
        assert moved > 0
        assert looked > 0
        accounts = store.roots["accounts"]
        assert sum(account.money for account in accounts) == ACCOUNTS * EACH
        assert sum(account.payments for account in accounts) == moved  # nothing was done twice, and nothing lost
        assert store.backend.revision() == moved + 1
        assert check(store) == []
        print(f"{url.partition(':')[0]}: {moved} payments, {looked} looks, {conflicts} conflicts in {SECONDS:g} s")  # noqa: T201


def work(url: str, seed: int, until: float, counts) -> None:
    """What one process does: eight threads on one store, one of which looks at all accounts."""
    moved, looked, conflicts, errors = [], [], [], []
    with make_store(url) as store:

        def run(own: random.Random, is_looking: bool) -> None:
            try:
                while time.time() < until:
                    try:
                        if is_looking:
                            look(store)
                            looked.append(1)
                        else:
                            moved.append(pay(store, own))
                    except ConflictError:
                        conflicts.append(1)
            except BaseException as error:  # noqa: BLE001 (told to the process that asked)
                errors.append(f"{type(error).__name__}: {error}")

        threads = [
            threading.Thread(target=run, args=(random.Random(seed * THREADS + number), number == 0))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts.put((sum(moved), len(looked), len(conflicts), errors))


def look(store) -> None:
    with store.transaction():
        assert sum(account.money for account in store.roots["accounts"]) == ACCOUNTS * EACH


def pay(store, own: random.Random) -> int:
    with store.transaction():
        accounts = store.roots["accounts"]
        payer, payee = own.sample(range(ACCOUNTS), 2)
        amount = own.randint(1, 20)
        accounts[payer].money -= amount
        accounts[payee].money += amount
        accounts[payer].payments += 1
    return 1
