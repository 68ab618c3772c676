"""Names change in files of pickles: a backup first, all or nothing, whatever fails or is killed."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
from renaming_shop import shop

from perdure.errors import CannotRename, CorruptRecord, DiskFull, NotFound, StorageError
from perdure.files import Disk, Files
from perdure.pickling.renames import Renames
from perdure.testing.faults import FaultyDisk, Killed
from perdure.upkeep import rename_in_file

MOVE = Renames({}, {"old_shop": "shop.models"})


@pytest.fixture
def carts(tmp_path):
    """A file of four pickles, and what is in it."""
    path = tmp_path / "carts.pkl"
    with shop() as old:
        path.write_bytes(
            pickle.dumps(old.Line("old_shop"), 0) + pickle.dumps([old.Colour.RED], 2)
            + pickle.dumps({"old_shop": old.Line(1)}, 4) + pickle.dumps("old_shop:Line")
        )  # fmt: skip
    return path


def test_the_file_is_changed_and_a_backup_is_there(carts):
    before = carts.read_bytes()
    carts.chmod(0o640)
    dry = rename_in_file(carts, MOVE, dry_run=True)
    assert (dry.pickles, dry.backup) == (4, None)
    assert (carts.read_bytes(), os.listdir(carts.parent)) == (before, ["carts.pkl"])
    report = rename_in_file(carts, MOVE)
    assert report == dry._replace(backup=f"{carts}.bak")
    assert dict(report.names) == {
        ("old_shop:Line", "shop.models:Line"): 2, ("old_shop:Colour", "shop.models:Colour"): 1
    }  # fmt: skip
    backup = carts.with_name("carts.pkl.bak")
    assert backup.read_bytes() == before
    assert sorted(os.listdir(carts.parent)) == ["carts.pkl", "carts.pkl.bak"]
    assert [path.stat().st_mode & 0o777 for path in (carts, backup)] == [0o640, 0o640]
    with shop("shop.models") as new, carts.open("rb") as file:
        first, second, third, fourth = (pickle.load(file) for _ in range(4))
        assert (first.of, second, third["old_shop"].of, fourth) == ("old_shop", [new.Colour.RED], 1, "old_shop:Line")
        assert type(first) is type(third["old_shop"]) is new.Line
    assert rename_in_file(carts, MOVE).backup is None  # nothing is to be changed any more
    with pytest.raises(StorageError, match=r"carts\.pkl\.bak is there already"):
        rename_in_file(carts, Renames({}, {"shop.models": "elsewhere"}))
    assert backup.read_bytes() == before


def test_it_tells_how_far_it_is(carts):
    told = []
    rename_in_file(carts, MOVE, progress=lambda done, of: told.append((done, of)))
    assert told == sorted(told)
    assert len(told) >= 8  # each pickle, as with one memo and with several, before and after
    assert {of for _, of in told} == {told[0][1]}
    assert told[-1][0] <= told[-1][1]


def test_a_link_stays_one(carts):
    link = carts.with_name("link.pkl")
    link.symlink_to(carts.name)
    rename_in_file(link, MOVE)
    assert link.is_symlink()
    assert b"shop.models" in carts.read_bytes()


def test_a_file_that_is_uncertain_or_something_else_is_left_alone(carts):
    with carts.open("ab") as file:
        file.write(b"\x80\x02\x82\x01.")
    for content, error, message in (
        (carts.read_bytes(), CannotRename, "EXT1 at position"),
        (b"SQLite format 3\0 and so on", CorruptRecord, "sqlite:///shop.db"),
        (b"\xb7PD\x01", CorruptRecord, "sealed"),
        (b"", CorruptRecord, "no whole pickle"),
        (b"\x80\x04N.\n", CorruptRecord, "no whole pickle"),
    ):
        carts.write_bytes(content)
        with pytest.raises(error, match=message) as caught:
            rename_in_file(carts, MOVE)
        assert caught.value.path == str(carts)
        assert "carts.pkl is left as it is" in caught.value.message
        assert (carts.read_bytes(), os.listdir(carts.parent)) == (content, ["carts.pkl"])
    with pytest.raises(NotFound):
        rename_in_file(carts.with_name("nothing.pkl"), MOVE)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("short", [False, True])
def test_whatever_fails_the_file_is_whole_and_the_next_run_does_the_rest(carts, kill, short):
    before = carts.read_bytes()
    disk = FaultyDisk(Disk())
    rename_in_file(carts, MOVE, files=Files(disk))
    after, backup = carts.read_bytes(), carts.with_name("carts.pkl.bak")
    assert len(disk.steps) >= 8
    for at in range(len(disk.steps)):
        backup.unlink(missing_ok=True)
        carts.write_bytes(before)
        faulty = FaultyDisk(Disk(), at, error=errno.ENOSPC, kill=kill, short=short and "write" in disk.steps[at])
        with pytest.raises(Killed if kill else StorageError) as caught:
            rename_in_file(carts, MOVE, files=Files(faulty))
        assert carts.read_bytes() in (before, after)
        if carts.read_bytes() == after:
            assert backup.read_bytes() == before
        if "write" in disk.steps[at] and not kill:
            assert isinstance(caught.value, DiskFull)
            assert short or set(os.listdir(carts.parent)) <= {"carts.pkl", "carts.pkl.bak"}
        rename_in_file(carts, MOVE)
        assert (carts.read_bytes(), backup.read_bytes()) == (after, before)
