"""Power cuts at every operation of backups: the file holds all that was acknowledged, and the next one goes on with it.

Then rules of backup, restore and repair are switched off, one by one, and each is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import test_keeping_backup
import test_keeping_copy
import test_keeping_damage
import test_keeping_repair
from chances import more
from pasts import Note, Places, everything

from perdure import PerdureError, StorageError, make_store
from perdure.files import Files
from perdure.records.seal import Key
from perdure.testing.crashes import Explorer, Image, SimulatedDisk
from perdure.testing.faults import FaultyDisk, Killed
from perdure.upkeep import backing_up, backup_files, repairing, restoring
from perdure.upkeep.backing_up import backup
from perdure.upkeep.backup_files import BackupFile, BackupWriter
from perdure.upkeep.past import revisions_of

pytestmark = pytest.mark.crash

FILE = "/data/b"
Patch = pytest.MonkeyPatch
damage, whole, mended, copied = test_keeping_damage, test_keeping_backup, test_keeping_repair, test_keeping_copy


class Run:
    """Backups of a store that goes on: a first one, increments, and one after another that was cut off."""

    def __init__(self) -> None:
        self.store = make_store("memory:", code="off")
        self.acknowledged = 0
        self.begun = False

    def run(self, disk: SimulatedDisk) -> None:
        Files(disk).make_directories("/data")
        note = Note("x" * 3000)
        self.store.save(note)
        self.backup(disk)
        for text in ("two", "three"):
            note.text = text * 500
            self.store.save(note)
            self.backup(disk)
        secret = self.store.save(Note("four" * 500))
        self.cut_off(disk)
        self.store.forget(secret)  # so that the next increment is shorter than that one would have been
        self.backup(disk)

    def backup(self, disk: SimulatedDisk) -> None:
        self.begun = True
        self.acknowledged = backup(self.store, FILE, files=Files(disk)).revision
        assert BackupFile(FILE, files=Files(disk)).contents().torn == 0

    def cut_off(self, disk: SimulatedDisk) -> None:
        """Leave what a power cut leaves of another increment, all but its last bytes."""
        other = SimulatedDisk(disk.image())
        backup(self.store, FILE, files=Files(other))
        rest = other.read(FILE, disk.size(FILE))
        after, disk.after = disk.after, None
        disk.write(FILE, disk.size(FILE), rest[:-10] + bytes(10))
        disk.sync(FILE)
        disk.after = after

    def check(self, image: Image) -> None:
        disk = SimulatedDisk(image)
        if disk.kind(FILE) is None:
            assert not self.acknowledged
        elif self.begun:
            self.check_file(disk)
            backup(self.store, FILE, files=Files(disk))
            assert self.check_file(disk) == self.store.revision()

    def check_file(self, disk: SimulatedDisk) -> int:
        file = BackupFile(FILE, files=Files(disk))
        contents = file.contents()
        assert self.acknowledged <= contents.revision <= self.store.revision()
        found = [step.past for step in file.steps(contents.end)]
        assert found == list(revisions_of(self.store.backend, 0, contents.revision))
        return contents.revision


def explore() -> Explorer:
    run = Run()
    explorer = Explorer(run.check, images_a_step=more(40))
    explorer.context = lambda: (run.acknowledged, run.store.revision())
    run.run(explorer.disk)
    return explorer


def test_a_power_cut_at_every_operation_leaves_what_was_acknowledged():
    explorer = explore()
    assert explorer.steps > 20
    assert explorer.images > 80


# -- repairs that are cut off, on disks that are full or broken ------------------------------------------------------


@pytest.mark.parametrize(("what", "disk"), test_keeping_damage.faults())
def test_a_repair_that_fails_anywhere_is_done_again_and_loses_nothing(
    what: str, disk: Callable[[int], FaultyDisk], tmp_path: Path, places: Places, monkeypatch: Patch
):
    store = mended.settled(places, "directory")
    store.backup(tmp_path / "b")
    note, before = store.roots["notes"][1].persistent_id, everything(store.backend)
    harm = mended.Harm(places, "directory", store)
    newest, older = [version.revision for version in store.backend.history(note)]
    for at in range(0, 1000, 2):
        for revision in (newest, older):
            harm.frame(note, revision, mended.flipped)
        again, faulty = places.open("directory"), disk(at)
        with monkeypatch.context() as patch, suppress(Killed, StorageError):
            patch.setattr(again.backend._files, "disk", faulty)  # type: ignore[attr-defined]
            patch.setattr(repairing, "Files", lambda faulty=faulty: Files(faulty))
            again.repair(source=tmp_path / "b", folder=tmp_path / str(at))
        last = places.open("directory")
        assert last.repair(source=tmp_path / "b", folder=tmp_path / str(at)).left == ()
        assert everything(last.backend) == before
        kept = {path.name for path in (tmp_path / str(at)).iterdir()}
        assert kept >= {f"{note}.{newest}", f"{note}.{older}"}
        if at >= len(faulty.steps):
            assert at > 10
            return
    pytest.fail("it never came through")


# -- the test of the test ------------------------------------------------------------------------------------------


def without_a_sync(which: int) -> Callable[[Patch], None]:
    """Backups leave out the first sync of each increment, or the last."""

    def drop(patch: Patch) -> None:
        real = SimulatedDisk.sync
        calls: dict[int, int] = {}  # of each disk: what is found after a power cut is gone on with in between

        def finish(self: BackupWriter, finish: Any = BackupWriter.finish, **told: object) -> Any:
            calls[id(self._files.disk)] = 0
            return finish(self, **told)

        def sync(self: SimulatedDisk, path: str) -> None:
            calls[id(self)] = calls.get(id(self), 0) + 1
            if calls[id(self)] != which:
                real(self, path)

        patch.setattr(BackupWriter, "finish", finish)
        patch.setattr(SimulatedDisk, "sync", sync)

    return drop


def names_are_not_synced(patch: Patch) -> None:
    patch.setattr(SimulatedDisk, "sync_directory", lambda self, path: None)


def written_in_place(patch: Patch) -> None:
    @contextmanager
    def beside(self: Files, path: str) -> Iterator[str]:
        yield path

    patch.setattr(Files, "beside", beside)


def what_was_cut_off_stays(patch: Patch) -> None:
    patch.setattr(Files, "truncate", lambda self, path, size: None)


def what_was_cut_off_may_come_back(patch: Patch) -> None:
    real, cut = SimulatedDisk.sync, SimulatedDisk.truncate

    def truncate(self: SimulatedDisk, path: str, size: int) -> None:
        cut(self, path, size)
        self.is_cut = True  # type: ignore[attr-defined]

    def sync(self: SimulatedDisk, path: str) -> None:
        if not getattr(self, "is_cut", False):
            real(self, path)
        self.is_cut = False  # type: ignore[attr-defined]

    patch.setattr(SimulatedDisk, "truncate", truncate)
    patch.setattr(SimulatedDisk, "sync", sync)


CUT: dict[str, Callable[[Patch], None]] = {
    "all is durable before its end is written": without_a_sync(1),
    "the end is durable before it is told": without_a_sync(2),
    "the new name is durable": names_are_not_synced,
    "written beside, then renamed": written_in_place,
    "what was cut off is taken away": what_was_cut_off_stays,
    "that it is taken away is durable": what_was_cut_off_may_come_back,
}


@pytest.mark.parametrize("rule", CUT)
def test_without_this_rule_the_search_finds_damage(rule: str, monkeypatch: Patch):
    CUT[rule](monkeypatch)
    with pytest.raises((AssertionError, PerdureError, KeyError, ValueError)):
        explore()


def small(tmp_path: Path) -> Any:
    return test_keeping_damage.small.__wrapped__(tmp_path)  # type: ignore[attr-defined]


def set_to(where: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(where, name, value)


Tried = Callable[[Places, Path], None]
NEEDED: dict[str, tuple[Callable[[Patch], None], Tried]] = {
    "digests of parts follow one another": (
        set_to(backup_files, "_chaining", lambda chain, chaining=backup_files._chaining: chaining(b"")),
        lambda places, path: damage.test_each_byte_that_is_changed_is_found_or_does_no_harm(small(path), path),
    ),
    "digests of parts are compared": (
        set_to(backup_files.BackupFile, "_parts", lambda self, until=None: unchecked_parts(self, until)),
        lambda places, path: damage.test_each_byte_that_is_changed_is_found_or_does_no_harm(small(path), path),
    ),
    "damage is no torn end": (
        set_to(BackupFile, "_refuse_damage", lambda self, end, reached: None),
        lambda places, path: damage.test_damage_is_not_taken_for_an_increment_that_was_cut_off(small(path), path),
    ),
    "seals are verified when a store is filled": (
        set_to(Key, "verifies", lambda self, data, tag: True),
        whole.test_what_was_sealed_by_nobody_is_refused,
    ),
    "a filled store is read again": (
        set_to(restoring, "_read_again", lambda backend, revision, digest: None),
        lambda places, path: with_patch(copied.test_what_is_read_again_must_be_what_was_written, places),
    ),
    "a backup belongs to one store": (
        set_to(backing_up, "_refuse_other", lambda backend, contents, place: None),
        whole.test_a_store_that_went_back_does_not_go_on_with_the_backup,
    ),
    "what is to be filled is empty": (
        set_to(restoring, "_expect_beginning", lambda backend, origin: None),
        lambda places, path: copied.test_a_target_that_went_its_own_way_is_refused_and_stays(places),
    ),
    "what is taken out is kept": (
        set_to(repairing.Removed, "keep", lambda self, name, content: None),
        lambda places, path: mended.test_damaged_versions_come_back_from_a_backup("directory", places, path),
    ),
    "the backup of another store mends nothing": (
        set_to(repairing, "_good_copies", lambda backend, key, source: iter(())),
        mended.test_the_backup_of_another_store_mends_nothing,
    ),
    "what carries a good seal is not mended": (
        set_to(repairing, "_is_good", lambda backend, key, copy, oldest: False),
        lambda places, path: mended.test_what_was_forgotten_since_its_backup_does_not_come_back("sqlite", places, path),
    ),
    "indexes are left alone where records are damaged": (
        set_to(repairing, "_listed", lambda backend: set()),
        lambda places, path: mended.test_what_has_no_good_copy_stays_and_is_told("sqlite", places, path),
    ),
}


def unchecked_parts(file: Any, until: int | None) -> Iterator[Any]:
    """The parts of a backup, whatever their digests are."""
    place = file._start
    while place < (len(file._data) if until is None else until):
        length = file._length_at(place, file._data)
        if length is None:
            return
        begin, stop = place + backup_files._HEAD_SIZE, place + backup_files._HEAD_SIZE + length + backup_files._CHAIN
        content = file._data[begin : stop - backup_files._CHAIN]
        yield backup_files.Part(bytes(file._data[place : place + 4]), content, stop, b"")
        place = stop


def with_patch(test: Callable[[Places, Patch], None], places: Places) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test(places, patch)


@pytest.mark.parametrize("rule", NEEDED)
def test_without_this_rule_another_test_fails(rule: str, monkeypatch: Patch, tmp_path: Path):
    switch_off, test = NEEDED[rule]
    for place, off in enumerate((False, True)):
        folder = tmp_path / str(place)
        folder.mkdir()
        places = Places(folder)
        try:
            if off:
                switch_off(monkeypatch)
                with pytest.raises((AssertionError, PerdureError, pytest.fail.Exception, KeyError, OSError)):
                    test(places, folder)
            else:
                test(places, folder)  # it is this rule alone that it fails without
        finally:
            places.close()
