"""Power cuts, kills, errors at every operation of a prevalent system; rules switched off, each of which is missed."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from chances import more, seeded
from prevalence_workload import PLACE, Workload, open_system

from perdure.errors import DiskFull, OutcomeUnknown, PerdureError, StorageError
from perdure.prevalence import entries, marks, opening, replaying, snapshots, snapshotting, system, taking
from perdure.prevalence.folder import Folder
from perdure.prevalence.journal import Journal
from perdure.testing.crashes import Explorer, SimulatedDisk
from perdure.testing.faults import FaultyDisk, Killed

pytestmark = pytest.mark.crash


def explore(images_a_step: int, durability: Any = "always", seed: int = 1) -> Explorer:
    workload = Workload(durability)
    explorer = Explorer(workload.check, images_a_step=images_a_step, seed=seeded(seed))
    explorer.context = lambda: workload.progress
    workload.run(explorer.disk)
    return explorer


def steps_of_a_run() -> list[str]:
    disk = FaultyDisk(SimulatedDisk())
    Workload().run(disk)
    return disk.steps


@pytest.mark.parametrize("durability", ["always", "none"])
def test_a_power_cut_at_every_operation_leaves_a_prefix_of_the_commands(durability: Any):
    explorer = explore(more(24), durability)
    assert explorer.steps > 100
    assert explorer.images > 500


@pytest.mark.parametrize("part", range(3))
def test_a_process_killed_at_every_operation_then_a_power_cut_in_the_life_after(part: int):
    for at in range(part, len(steps_of_a_run()), 3):
        workload = Workload()
        explorer = Explorer(workload.check, images_a_step=more(4), seed=seeded(at))
        explorer.disk.after = None
        with pytest.raises(Killed):
            workload.run(FaultyDisk(explorer.disk, at, kill=True))
        workload.check(explorer.disk.image())
        # What the dead process wrote is visible, and yet not durable: recovery must not build on sand.
        explorer.disk.after = explorer._cut_power
        survivor = open_system(explorer.disk)
        seen = survivor.sequence
        assert workload.acknowledged <= seen < len(workload.states)
        workload.states[seen + 1 :] = [b""]
        survivor.root.add("of the survivor")
        workload.acknowledged = seen + 1
        explorer._cut_power()
        survivor.close()


# -- the test of the test: each of these rules is needed, and its loss is seen ------------------------------------


def without_sync(*endings: str, calls: tuple[str, ...] = ("sync", "sync_held", "sync_directory")) -> Any:
    def drop(patch: pytest.MonkeyPatch) -> None:
        for name in calls:
            real = getattr(SimulatedDisk, name)

            def sync(self: SimulatedDisk, what: Any, real: Callable[..., None] = real) -> None:
                path = what if isinstance(what, str) else self._name_of(what)
                if not any(ending in path for ending in endings):
                    real(self, what)

            patch.setattr(SimulatedDisk, name, sync)

    return drop


def no_checksums(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entries, "crc32", lambda data: 0)
    patch.setattr(entries, "is_sealed", lambda data, end, key: True)


def answered_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "sync", lambda self: None)


def reached_is_noted_too_early(patch: pytest.MonkeyPatch) -> None:
    note = Folder.note
    patch.setattr(Folder, "note", lambda self, reached: note(self, reached._replace(last=reached.last + 1)))


def journals_go_with_the_newest_snapshot(patch: pytest.MonkeyPatch) -> None:
    real = taking.drop_old

    def drop(folder: Folder, keep: Any, now: float, key: Any) -> Any:
        keepers = folder.numbers("snapshot")[:-1]
        for number in folder.numbers("journal")[:-1]:
            if keepers and number > keepers[-1]:
                folder.files.unlink(folder.numbered("journal", number))
        return real(folder, keep, now, key)

    patch.setattr(snapshotting, "drop_old", drop)


def journals_go_before_the_snapshot_is_there(patch: pytest.MonkeyPatch) -> None:
    real = taking.put_in_place

    def put(folder: Folder, written: str, sequence: int, key: Any) -> None:
        for number in folder.numbers("journal"):
            folder.files.unlink(folder.numbered("journal", number))
        real(folder, written, sequence, key)

    patch.setattr(taking, "put_in_place", put)


def a_snapshot_is_written_under_its_own_name(patch: pytest.MonkeyPatch) -> None:
    real = snapshots.write_snapshot

    def write(files: Any, path: str, *rest: Any) -> None:
        real(files, path.removesuffix(".new"), *rest)

    patch.setattr(opening, "write_snapshot", write)
    patch.setattr(taking, "write_snapshot", write)
    patch.setattr(opening, "put_in_place", lambda *_: None)
    patch.setattr(taking, "put_in_place", lambda *_: None)


def what_raised_is_not_told(patch: pytest.MonkeyPatch) -> None:
    real = marks.encode_failed
    patch.setattr(system, "encode_failed", lambda raised, seed: real([], seed))


def what_raised_is_not_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(system.System, "_read_again", lambda *_: None)
    patch.setattr(system.System, "_take_back", lambda *_: None)


def what_raises_on_replay_stays(patch: pytest.MonkeyPatch) -> None:
    real = replaying.FileReplay._call

    def call(self: Any, *rest: Any) -> None:
        with suppress(replaying.Raised):
            real(self, *rest)

    patch.setattr(replaying.FileReplay, "_call", call)


def the_system_is_there_before_its_first_snapshot(patch: pytest.MonkeyPatch) -> None:
    make = Folder.make

    def make_all(self: Folder, new_key: Any) -> None:
        make(self, new_key)
        self.finish()

    patch.setattr(Folder, "make", make_all)


RULES = {
    "journal synced before the answer": answered_before_it_is_durable,
    "journal's zeros and head synced": without_sync("journal", calls=("sync",)),
    "journal's entries synced": without_sync("journal", calls=("sync_held",)),
    "names synced": without_sync(PLACE, calls=("sync_directory",)),
    "snapshots synced": without_sync("snapshot"),
    "who it is synced": without_sync("system"),
    "reached synced": without_sync("reached"),
    "checksums": no_checksums,
    "reached noted when it is": reached_is_noted_too_early,
    "journals kept for the oldest snapshot": journals_go_with_the_newest_snapshot,
    "snapshot before journals go": journals_go_before_the_snapshot_is_there,
    "snapshot complete before it is named": a_snapshot_is_written_under_its_own_name,
    "what raised is told": what_raised_is_not_told,
    "what raised is undone": what_raised_is_not_undone,
    "what raises on replay is left out": what_raises_on_replay_stays,
    "first snapshot before the system": the_system_is_there_before_its_first_snapshot,
}


@pytest.mark.parametrize("rule", RULES)
def test_without_this_rule_the_search_finds_damage(rule: str, monkeypatch: pytest.MonkeyPatch):
    RULES[rule](monkeypatch)
    with pytest.raises((AssertionError, PerdureError, KeyError, ValueError)):
        explore(images_a_step=24)


def test_an_entry_that_says_too_much_is_durable_is_taken_for_damage(monkeypatch: pytest.MonkeyPatch):
    real = entries.encode_entry

    def encode(mark: int, before: int, number: int, durable: int, records: bytes) -> Any:
        return real(mark, before, number, 0xFFFFFFFF, records)

    monkeypatch.setattr("perdure.prevalence.journal.encode_entry", encode)
    with pytest.raises(PerdureError):
        explore(24, "none")


def test_what_a_killed_process_left_is_synced_before_it_is_built_upon(monkeypatch: pytest.MonkeyPatch):
    def settle(folder: Folder, recovered: Any) -> None:
        if recovered.torn is not None:
            folder.files.truncate(recovered.torn[0], recovered.torn[1])
        folder.remove_leftovers()

    monkeypatch.setattr(opening, "_settle", settle)
    with pytest.raises((AssertionError, PerdureError)):
        test_a_process_killed_at_every_operation_then_a_power_cut_in_the_life_after(0)


# -- errors of the disk --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "short"), [(errno.ENOSPC, False), (errno.EIO, False), (errno.ENOSPC, True), (errno.EIO, True)]
)
def test_an_error_at_every_operation_is_named_and_harms_nothing(error: int, short: bool):
    met: set[type[StorageError]] = set()
    for at in range(len(steps_of_a_run())):
        inner = SimulatedDisk()
        disk = FaultyDisk(inner, at, error=error, short=short)
        workload = Workload()
        workload.run(disk)
        workload.check(inner.image())
        met.update(type(each) for each in workload.errors)
        assert len(workload.states) == 19 + 1
    assert OutcomeUnknown in met
    assert (DiskFull in met) == (error == errno.ENOSPC)
