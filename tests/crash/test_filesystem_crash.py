"""Power cuts, kills and errors at every operation of a run; and rules switched off, each of which is missed."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from chances import more, seeded
from filesystem_workload import ENCODE, STORE, Workload, contents, draft, open_store, small_journal

from perdure.backends.filesystem import journal as filesystem_journal
from perdure.backends.filesystem.medium import Medium
from perdure.errors import DiskFull, OutcomeUnknown, PerdureError, StorageError
from perdure.records.buffers import digest_of
from perdure.records.values import Batch
from perdure.testing.crashes import Explorer, SimulatedDisk
from perdure.testing.faults import FaultyDisk, Killed

pytestmark = pytest.mark.crash


@pytest.fixture(autouse=True)
def _small_journal():
    with small_journal():
        yield


def explore(images_a_step: int) -> Explorer:
    workload = Workload()
    explorer = Explorer(workload.check, images_a_step=images_a_step)
    explorer.context = lambda: workload.progress
    workload.run(explorer.disk)
    return explorer


def steps_of_a_run(*, writing_only: bool = True) -> list[str]:
    disk = FaultyDisk(SimulatedDisk(), writing_only=writing_only)
    Workload().run(disk)
    return disk.steps


def test_a_power_cut_at_every_operation_leaves_a_prefix_of_whole_commits():
    explorer = explore(images_a_step=more(40))
    assert explorer.steps > 100
    assert explorer.images > 1000


def test_a_process_killed_at_every_operation_then_a_power_cut_in_the_life_after():
    for at in range(len(steps_of_a_run())):
        workload = Workload()
        explorer = Explorer(workload.check, images_a_step=more(4), seed=seeded(at))
        explorer.disk.after = None
        with pytest.raises(Killed):
            workload.run(FaultyDisk(explorer.disk, at, kill=True))
        workload.check(explorer.disk.image())
        # What the dead process wrote is visible, and yet not durable: recovery must not build on sand.
        explorer.disk.after = explorer._cut_power
        survivor = open_store(explorer.disk)
        seen = survivor.revision()
        explorer.disk.after = None
        assert workload.acknowledged <= seen < len(workload.states)
        survivor.close()


def test_a_living_process_goes_on_where_another_was_killed_and_a_power_cut_follows():
    for at in range(0, 1000, 3):
        workload = Workload()
        explorer = Explorer(workload.check, images_a_step=more(4), seed=seeded(at))
        explorer.disk.after = None
        witness = open_store(explorer.disk)
        try:
            workload.run(FaultyDisk(explorer.disk, at, kill=True))
        except Killed:
            explorer.disk.after = explorer._cut_power
            seen = witness.revision()
            workload.states[seen + 1 :] = [{**workload.states[seen], "Item.20": b"twenty"}]
            assert witness.apply(Batch([draft("Item.20", b"twenty")]), ENCODE).revision == seen + 1
            workload.acknowledged, workload.numbers = seen + 1, 20
            witness.close()
        else:
            assert at > 80
            return


# -- the test of the test: each of these rules is needed, and its loss is seen ------------------------------------


def without_sync(ending: str) -> Callable[[pytest.MonkeyPatch], None]:
    def drop(patch: pytest.MonkeyPatch) -> None:
        for name in ("sync", "sync_directory"):
            real = getattr(SimulatedDisk, name)

            def sync(self: SimulatedDisk, path: str, real: Callable[..., None] = real) -> None:
                if not path.endswith(ending):
                    real(self, path)

            patch.setattr(SimulatedDisk, name, sync)

    return drop


def files_before_intent(patch: pytest.MonkeyPatch) -> None:
    record = Medium.record

    def too_late(self, entry, frames, *, durable=True):
        for id_, frame in zip(entry.ids(), frames, strict=True):
            self.files.write_new(f"{self.directory}/{id_}", frame)
        record(self, entry, frames, durable=durable)

    patch.setattr(Medium, "record", too_late)


def journal_cleared_before_log(patch: pytest.MonkeyPatch) -> None:
    extend = Medium._extend_log

    def extend_late(self):
        self.files.truncate(self.path("journal"), 0)
        self.files.sync(self.path("journal"))
        extend(self)

    patch.setattr(Medium, "_extend_log", extend_late)


def journal_cleared_before_files(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Medium, "_sync_files", lambda self, places: None)


def no_checksums(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(filesystem_journal, "checksum", lambda data: 0)


def remnants_are_not_cut(patch: pytest.MonkeyPatch) -> None:
    def append(self, path, end):
        if path.endswith("journal"):
            self._journal_end = self.files.size(path)

    patch.setattr(Medium, "_cut", append)


def superseded_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Medium, "_keep_superseded", lambda self, entry: None)


def files_are_not_repaired(patch: pytest.MonkeyPatch) -> None:
    def refresh_and_trust(self, refresh=Medium.refresh):
        refresh(self)
        self._in_place.update(entry.revision for entry in self._entries)

    patch.setattr(Medium, "refresh", refresh_and_trust)


def reservations_are_not_recorded(patch: pytest.MonkeyPatch) -> None:
    record = Medium.record

    def record_commits_only(self, entry, frames, *, durable=True):
        if entry.revision:
            record(self, entry, frames, durable=durable)

    patch.setattr(Medium, "record", record_commits_only)


RULES = {
    "journal synced": without_sync(".perdure/journal"),
    "log synced": without_sync(".perdure/log"),
    "present files' names synced": without_sync(STORE),
    "own files' names synced": without_sync(".perdure/own"),
    "superseded files' names synced": without_sync(".perdure/old"),
    "names of perdure's files synced": without_sync(".perdure"),
    "large pieces synced": without_sync("aside/piece"),
    "large pieces' names synced": without_sync(f"buffers/{digest_of(b'nine' * 300)[:2]}"),
    "a file of an object synced": without_sync("Item.9"),
    "files settled before the journal is cleared": journal_cleared_before_files,
    "log written before the journal is cleared": journal_cleared_before_log,
    "intent before files": files_before_intent,
    "checksums": no_checksums,
    "remnants cut": remnants_are_not_cut,
    "superseded versions kept": superseded_are_not_kept,
    "files repaired": files_are_not_repaired,
    "reservations recorded": reservations_are_not_recorded,
}


@pytest.mark.parametrize("rule", RULES)
def test_without_this_rule_the_search_finds_damage(rule: str, monkeypatch: pytest.MonkeyPatch):
    RULES[rule](monkeypatch)
    with pytest.raises((AssertionError, PerdureError, KeyError, ValueError)):
        explore(images_a_step=more(40))


@pytest.mark.parametrize("rule", ["_sync_journal", "_sync_log"])
def test_what_a_killed_process_left_is_synced_before_it_is_built_upon(rule: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Medium, rule, lambda self: None)
    with pytest.raises((AssertionError, PerdureError)):
        test_a_process_killed_at_every_operation_then_a_power_cut_in_the_life_after()


# -- errors of the disk --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "short"), [(errno.ENOSPC, False), (errno.EIO, False), (errno.ENOSPC, True), (errno.EIO, True)]
)
def test_an_error_at_every_operation_is_named_and_harms_nothing(error: int, short: bool):
    for at in range(len(steps_of_a_run())):
        inner = SimulatedDisk()
        disk = FaultyDisk(inner, at, error=error, short=short)
        workload = Workload()
        outcome = run_through_errors(workload, disk)
        workload.check(inner.image())
        assert outcome in (None, "again", "unknown"), disk.steps[at]


def run_through_errors(workload: Workload, disk: FaultyDisk) -> str | None:
    """Run on after an error, as its kind allows; what the store says meanwhile is checked."""
    outcome = None
    try:
        backend = open_store(disk)
    except StorageError:
        outcome, backend = "again", open_store(disk)
    for step in range(9):
        try:
            workload.step(backend, step)
        except OutcomeUnknown:
            assert outcome is None, "one fault, two errors"
            with pytest.raises(OutcomeUnknown):
                workload.step(backend, step)
            assert contents(backend) in workload.states[workload.acknowledged :]
            backend.close()
            return "unknown"
        except StorageError:
            assert outcome is None, "one fault, two errors"
            outcome = "again"
            assert contents(backend) == workload.states[workload.acknowledged]
            workload.step(backend, step)
    try:
        backend.close()
    except StorageError:
        assert outcome is None, "one fault, two errors"
        outcome = "again"
    return outcome


def test_an_error_at_every_look_at_the_disk_is_named_and_harms_nothing():
    for at in range(len(steps_of_a_run(writing_only=False))):
        inner = SimulatedDisk()
        workload = Workload()
        run_through_errors(workload, FaultyDisk(inner, at, writing_only=False))
        workload.check(inner.image())


def test_a_full_disk_is_named_and_the_store_stays_as_it_was():
    inner = SimulatedDisk()
    disk = FaultyDisk(inner)
    backend = open_store(disk)
    backend.apply(Batch([draft("Item.1", b"one")]), ENCODE)
    for short in (False, True):
        disk.at, disk.error, disk.short = len(disk.steps), errno.ENOSPC, short
        with pytest.raises(DiskFull) as caught:
            backend.apply(Batch([draft("Item.2", b"two" * 500)]), ENCODE)
        assert ".perdure/journal" in caught.value.path
        assert backend.revision() == 1
        assert contents(backend) == {"Item.1": b"one"}
        assert inner.list(STORE) == [".perdure", "Item.1"]
    assert backend.apply(Batch([draft("Item.2", b"two")]), ENCODE).revision == 2


def test_a_full_disk_leaves_nothing_of_a_large_piece():
    content = b"large" * 200
    inner = SimulatedDisk()
    disk = FaultyDisk(inner)
    backend = open_store(disk)
    before = backend.revision()
    full = 0
    for after in range(100):
        disk.at, disk.error, disk.short = len(disk.steps) + after, errno.ENOSPC, after % 2 == 0
        try:
            backend.apply(Batch([draft("Item.1", b"one")], buffers={digest_of(content): content}), ENCODE)
        except DiskFull:
            full += 1
            assert (backend.revision(), backend.buffers(), contents(backend)) == (before, {}, {})
            if not disk.short:  # then the fault comes once more, when what lies aside is to be removed
                assert inner.list(f"{STORE}/.perdure/aside") == []
        except OutcomeUnknown:  # it was the fsync that failed: nothing is written any more until it is opened again
            backend.close()
            backend = open_store(disk)
            assert (backend.revision(), contents(backend)) == (before, {})
            backend.drop_buffers(backend.buffers(), before)
        else:
            break
    disk.at = -1
    assert full >= 4
    assert bytes(backend.buffer(digest_of(content))) == content
