"""Power cuts, kills and errors at every operation of packing, erasing, and commits that keep nothing for long."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from chances import more, seeded
from filesystem_workload import ENCODE, STORE, Contents, Workload, contents, draft, open_store, small_journal

from perdure.backends.filesystem import medium as filesystem_medium
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.backends.filesystem.medium import Medium
from perdure.errors import OutcomeUnknown, PerdureError, StorageError
from perdure.files import Disk
from perdure.records.values import INTERNAL, Batch, Draft
from perdure.testing.crashes import Explorer, SimulatedDisk
from perdure.testing.faults import FaultyDisk, Killed

pytestmark = pytest.mark.crash

STEPS = 14


@pytest.fixture(autouse=True)
def _small_journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(filesystem_medium, "LOG_BYTES", 0)  # the log is packed on the way, too
    with small_journal():
        yield


class ForgettingWorkload(Workload):
    """Begins as the common run; then objects come back, the store is packed, one is erased, history is switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.oldest = (0, 0)  # acknowledged, and asked for
        self.erased = (False, False)  # Item.2: acknowledged, and asked for

    def run(self, disk: Disk) -> None:
        backend = open_store(disk)
        for step in range(STEPS):
            self.step(backend, step)
        backend.close()

    def step(self, backend: FilesystemBackend, step: int) -> None:
        if step < 4:
            super().step(backend, step)
        elif step == 4:
            self.commit(backend, draft("Item.2", b"two, back", 3), draft("Item.9", b"nine"))
        elif step == 5:
            self.pack(backend, 2)
        elif step == 6:
            self.commit(backend, removals={"Item.2": 4, "Run.3": 3})
        elif step == 7:
            self.erase(backend)
        elif step == 8:
            self.commit(backend, draft("Item.1", b"one, fourth", 3))
        elif step == 9:
            self.pack(backend, 5)
        elif step == 10:
            self.commit(backend, draft("Run.3", b"run, back", 5, INTERNAL))
        else:
            base = {11: 6, 12: 8, 13: 9}[step]
            self.commit(backend, draft("Item.1", b"%d" % step, base), keep=0.0, time=float(step))

    def commit(self, backend: FilesystemBackend, *drafts: Draft, **parts: object) -> None:
        state = {**self.states[self.acknowledged], **{each.id: each.payload for each in drafts}}
        for id_ in parts.get("removals", ()):  # type: ignore[attr-defined]
            del state[id_]
        self.states[self.acknowledged + 1 :] = [state]
        asked = self.acknowledged if "keep" in parts else self.oldest[0]
        self.oldest = (self.oldest[0], asked)
        self._note()
        revision = backend.apply(Batch(list(drafts), **parts), ENCODE).revision  # type: ignore[arg-type]
        assert revision == self.acknowledged + 1
        self.acknowledged, self.oldest = revision, (asked, asked)
        self.numbers = max(self.numbers, 0, *(int(each.id.partition(".")[2]) for each in drafts), 0)
        self._note()

    def pack(self, backend: FilesystemBackend, oldest: int) -> None:
        self.oldest = (self.oldest[0], oldest)
        self._note()
        backend.pack(oldest)
        self.oldest = (oldest, oldest)
        self._note()

    def erase(self, backend: FilesystemBackend) -> None:
        self.erased = (False, True)
        self._note()
        backend.erase(["Item.2"])
        self.erased = (True, True)
        self._note()

    def _note(self) -> None:
        super()._note()
        self.progress = (*self.progress, self.oldest, self.erased)  # type: ignore[assignment]

    def check_states(self, backend: FilesystemBackend, revision: int) -> None:
        oldest = backend.describe().oldest
        assert self.oldest[0] <= oldest <= self.oldest[1]
        found = {at: contents(backend, at) for at in range(oldest, revision + 1)}
        whole = {at: self.states[at] for at in found}
        less = {at: without(state, "Item.2") for at, state in whole.items()}
        assert found in [[whole], [whole, less], [less]][sum(self.erased)]
        assert {each.revision for each in backend.commits()} >= set(range(max(oldest, 1), revision + 1))
        self._pack_again(backend)

    @staticmethod
    def _pack_again(backend: FilesystemBackend) -> None:
        """What was cut off can be run again; then every file of an older version is one that the index knows."""
        if not backend.describe().oldest:
            return
        assert backend.pack(backend.describe().oldest) == 0
        index = backend._medium.index
        known = {f"{n}.{r}" for n, revisions in index.versions.items() for r in revisions}
        assert set(backend._medium.files.list(f"{STORE}/.perdure/old")) <= known


def without(state: Contents, id_: str) -> Contents:
    return {each: payload for each, payload in state.items() if each != id_}


def explore(images_a_step: int) -> Explorer:
    workload = ForgettingWorkload()
    explorer = Explorer(workload.check, images_a_step=images_a_step)
    explorer.context = lambda: workload.progress
    workload.run(explorer.disk)
    assert (workload.oldest, workload.erased) == ((9, 9), (True, True))
    return explorer


def steps_of_a_run() -> list[str]:
    disk = FaultyDisk(SimulatedDisk())
    ForgettingWorkload().run(disk)
    return disk.steps


def test_a_power_cut_at_every_operation():
    explorer = explore(images_a_step=more(20))
    assert explorer.steps > 150
    assert explorer.images > 1000


def test_a_process_killed_at_every_operation_then_a_power_cut_in_the_life_after():
    for at in range(len(steps_of_a_run())):
        workload = ForgettingWorkload()
        explorer = Explorer(workload.check, images_a_step=more(4), seed=seeded(at))
        explorer.disk.after = None
        with pytest.raises(Killed):
            workload.run(FaultyDisk(explorer.disk, at, kill=True))
        workload.check(explorer.disk.image())


def test_a_living_process_notices_that_another_one_packed():
    disk = SimulatedDisk()
    witness, workload = open_store(disk), ForgettingWorkload()
    writer = open_store(disk)
    for step in range(STEPS):
        workload.step(writer, step)
        assert contents(witness) == workload.states[workload.acknowledged]
        workload.check_states(witness, workload.acknowledged)
        assert witness.describe()[3:] == writer.describe()[3:]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_an_error_at_every_operation_is_named_and_harms_nothing(error: int):
    for at in range(len(steps_of_a_run())):
        inner = SimulatedDisk()
        workload = ForgettingWorkload()
        run_through_errors(workload, FaultyDisk(inner, at, error=error))
        workload.check(inner.image())


def run_through_errors(workload: ForgettingWorkload, disk: FaultyDisk) -> None:
    try:
        backend = open_store(disk)
    except StorageError:
        backend = open_store(disk)
    for step in range(STEPS):
        try:
            workload.step(backend, step)
        except OutcomeUnknown:
            with pytest.raises(OutcomeUnknown):
                workload.step(backend, step)
            backend.close()
            return
        except StorageError:
            workload.step(backend, step)
    try:
        backend.close()
    except StorageError:
        backend.close()


# -- the test of the test -------------------------------------------------------------------------------------


def files_go_before_the_entry(patch: pytest.MonkeyPatch) -> None:
    record = Medium.record

    def too_late(self: Medium, entry, frames, *, durable=True):
        if entry.oldest and not entry.revision:
            for name in self.olds():
                self.files.unlink(self.path(f"old/{name}"))
        record(self, entry, frames, durable=durable)

    patch.setattr(Medium, "record", too_late)


def the_log_is_replaced_in_place(patch: pytest.MonkeyPatch) -> None:
    def replace(self, path, data, *, mode=0o666):
        self.truncate(path, 0)
        self.write_at(path, 0, data)
        self.sync(path)

    def pack_log(self: Medium, pack_log=Medium.pack_log):
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(type(self.files), "replace_durably", replace)
            pack_log(self)

    patch.setattr(Medium, "pack_log", pack_log)


def the_log_is_packed_with_a_full_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Medium, "settle", lambda self: None)


RULES = [files_go_before_the_entry, the_log_is_replaced_in_place, the_log_is_packed_with_a_full_journal]


@pytest.mark.parametrize("rule", RULES)
def test_without_this_rule_the_search_finds_damage(rule, monkeypatch: pytest.MonkeyPatch):
    rule(monkeypatch)
    with pytest.raises((AssertionError, PerdureError, KeyError, ValueError)):
        explore(images_a_step=more(20))
