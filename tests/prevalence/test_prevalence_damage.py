"""What is wrong in the directory: the ten ways in which Prevayler fails, and what else may happen to files."""

from __future__ import annotations

import shutil
from zlib import crc32

import pytest
from tasks import Tasks

from perdure import prevalence
from perdure.errors import (
    CorruptJournal,
    CorruptRecord,
    KeyMissing,
    NewerFormat,
    NotAStore,
    StorageError,
    StoreBusy,
    UntrustedRecord,
)
from perdure.files import Disk, Files
from perdure.prevalence.entries import parse_head
from perdure.prevalence.folder import Folder
from perdure.prevalence.inspecting import verify
from perdure.prevalence.repairing import repair
from perdure.records.seal import Key

KEY = Key(b"k" * 32)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "system"


def use(place, *texts, **settings):
    """Open, add, and end properly."""
    with open_system(place, **settings) as system:
        for text in texts:
            system.root.add(text)
        return dict(system.root.open)


def open_system(place, **settings):
    given = {"key": KEY, "code": "off", "freeze": False, "step": 4096, "snapshot_commands": None, **settings}
    return prevalence.open(place, Tasks, **given)


def kill(place, *texts):
    """Open and add, and leave the files as a killed process does."""
    system = open_system(place)
    for text in texts:
        system.root.add(text)
    copies = {path.name: path.read_bytes() for path in place.iterdir()}
    system.close()
    for path in place.iterdir():
        path.unlink()
    for name, data in copies.items():
        (place / name).write_bytes(data)


def journals(place):
    return sorted(place.glob("journal-*"))


def ends(path):
    """Where the entries of a journal file end that has nothing but one command in each."""
    data = path.read_bytes()
    head = parse_head(data, str(path))
    at, found = head.end, [head.end]
    while int.from_bytes(data[at : at + 4], "little") == head.mark:
        at += 24 + int.from_bytes(data[at + 12 : at + 16], "little") + 16
        found.append(at)
    return found


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


# -- the ten ways ----------------------------------------------------------------------------------------


def test_1_a_kill_while_it_is_open_leaves_zeros_at_the_end(place):
    kill(place, "a", "b")
    assert journals(place)[0].stat().st_size == 4096
    with open_system(place) as system:
        assert list(system.root.open) == ["a", "b"]
        assert system.said == []


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_2_the_last_record_is_torn_with_zeros_after_it(place, cut):
    kill(place, "a", "b", "c")
    path = journals(place)[0]
    last = ends(path)[-2:]
    data = bytearray(path.read_bytes())
    data[last[1] - cut :] = bytes(len(data) - last[1] + cut)
    path.write_bytes(data)
    with pytest.warns(RuntimeWarning, match=rf"was cut off: \d+ bytes from byte {last[0]} on"):
        system = open_system(place)
    with system:
        assert list(system.root.open) == ["a", "b"]
        assert "the last whole command is 2" in system.said[0]
        assert path.stat().st_size == last[0]
        system.root.add("d")
    assert list(use(place)) == ["a", "b", "d"]


def test_3_the_last_record_is_cut_short_at_the_end_of_the_file(place):
    kill(place, "a", "b", "c")
    path = journals(place)[0]
    path.write_bytes(path.read_bytes()[: ends(path)[-1] - 7])
    with pytest.warns(RuntimeWarning, match="was cut off"):
        system = open_system(place)
    with system:
        assert list(system.root.open) == ["a", "b"]


@pytest.mark.parametrize("way", [kill, use])
def test_4_one_flipped_byte_in_a_payload_is_never_taken_for_a_value(place, way):
    way(place, "aaaa", "bbbb", "cccc")
    path = journals(place)[0]
    start, end = ends(path)[1:3]
    at = path.read_bytes().index(b"bbbb", start)
    flip(path, at)
    with pytest.raises(
        CorruptJournal, match=f"damaged at byte {start}: command 2 cannot be read, yet command 3"
    ) as caught:
        open_system(place)
    assert (caught.value.offset, caught.value.sequence, caught.value.path) == (start, 2, str(path))
    assert at < end


@pytest.mark.parametrize("byte", [0, 5, 9, 13, 17, 21])
def test_5_one_flipped_byte_in_a_header_stops_with_the_place(place, byte):
    kill(place, "a", "b", "c")
    path = journals(place)[0]
    start = ends(path)[1]
    flip(path, start + byte)
    with pytest.raises(CorruptJournal, match="command 2 cannot be read") as caught:
        open_system(place)
    assert caught.value.offset == start


def test_5b_a_flipped_byte_in_the_head_of_the_file(place):
    use(place, "a")
    flip(journals(place)[0], 20)
    with pytest.raises(CorruptJournal, match=r"head of the journal file .* is damaged \(byte 0\)"):
        open_system(place)


def test_5c_a_flipped_byte_in_the_seal_of_the_head(place):
    use(place, "a")
    path = journals(place)[0]
    flip(path, parse_head(path.read_bytes(), str(path)).end - 1)
    with pytest.raises(UntrustedRecord, match=r"The head of .* \(byte 0\)") as caught:
        open_system(place)
    assert (caught.value.path, caught.value.offset) == (str(path), 0)


def three_files(place):
    use(place, "a", "b")
    use(place, "c", "d")
    use(place, "e", "f")
    assert len(journals(place)) == 3


def test_6_a_journal_file_in_the_middle_is_missing(place):
    three_files(place)
    journals(place)[1].unlink()
    with pytest.raises(CorruptJournal, match=r"ends at byte \d+, after command 2; the next file begins with 5"):
        open_system(place)


@pytest.mark.parametrize("which", [0, 2])
def test_6b_the_first_or_the_last_journal_file_is_missing(place, which):
    three_files(place)
    journals(place)[which].unlink()
    with pytest.raises(CorruptJournal, match=f"journal file with command {which * 2 + 1} is missing"):
        open_system(place)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_7_a_journal_file_is_truncated(place, which):
    three_files(place)
    path = journals(place)[which]
    cut = ends(path)[1]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CorruptJournal, match=f"ends at byte {cut}, after command {which * 2 + 1};"):
        open_system(place)


def test_8_two_instances(place):
    with open_system(place) as system:
        system.root.add("a")
        with pytest.raises(StoreBusy):
            open_system(place)
        system.root.add("b")
    assert list(use(place)) == ["a", "b"]


def test_9_a_command_that_raises_after_half_its_work(place):
    with open_system(place) as system:
        with pytest.raises(ValueError, match="needs a text"):
            system.root.add_all("HALF", "")
        assert system.root.open == {}
    assert use(place) == {}


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "head"])
def test_10_the_newest_snapshot_is_broken_and_the_one_before_is_taken(place, damage):
    with open_system(place) as system:
        system.root.add("a")
        system.snapshot()
        system.root.add("b")
        newest = system.snapshot().path
        system.root.add("c")
    with open(newest, "r+b") as file:
        data = bytearray(file.read())
        if damage in ("flipped", "head"):
            data[1 if damage == "head" else len(data) // 2] ^= 1
        file.seek(0)
        file.truncate()
        file.write(data[: {"empty": 0, "cut": 100}.get(damage, len(data))])
    with pytest.warns(RuntimeWarning, match="The one before it is used"):
        system = open_system(place)
    with system:
        assert list(system.root.open) == ["a", "b", "c"]
        assert system.sequence == 3


# -- what else may happen --------------------------------------------------------------------------------


def test_an_old_record_is_not_damaged_by_what_is_torn_after_it(place):
    kill(place, "a", "b")
    path = journals(place)[0]
    data = bytearray(path.read_bytes())
    end = ends(path)[-1]
    data[end : end + 300] = b"\xff" * 300
    path.write_bytes(data)
    with pytest.warns(RuntimeWarning, match="300 bytes"):
        system = open_system(place)
    with system:
        assert list(system.root.open) == ["a", "b"]


def test_a_journal_of_another_system_is_refused(place, tmp_path):
    use(place, "a")
    use(tmp_path / "other", "b")
    journals(place)[0].write_bytes(journals(tmp_path / "other")[0].read_bytes())
    with pytest.raises(CorruptJournal, match="is of another system"):
        open_system(place)


def test_an_old_copy_of_a_journal_file_is_noticed(place):
    use(place, "a")
    old = journals(place)[0].read_bytes()
    path = journals(place)[0]
    place_of_b = place / "journal-0000000000000000002"
    use(place, "b")
    assert journals(place) == [path, place_of_b]
    place_of_b.write_bytes(old)
    with pytest.raises(CorruptJournal, match="begins with command 1"):
        open_system(place)


def test_what_somebody_without_the_key_wrote_is_not_unpickled(place):
    use(place, "a", "b")
    path = journals(place)[0]
    for path, at in ((path, ends(path)[0] - 1), (place / "snapshot-0000000000000000000", -1)):
        before = path.read_bytes()
        forged = bytearray(before)
        forged[at] ^= 1  # the seal alone
        path.write_bytes(forged)
        with pytest.raises((UntrustedRecord, CorruptJournal), match=r"good seal|no snapshot"):
            open_system(place)
        with open_system(place, trust="all") as system:
            assert list(system.root.open) == ["a", "b"]
        path.write_bytes(before)
    with pytest.raises(KeyMissing, match="is sealed with the key"):
        open_system(place, key=Key(b"x" * 32))
    with pytest.raises(KeyMissing, match="is not on this machine"):
        open_system(place, key=None)


def test_a_directory_of_others_is_left_alone(place):
    place.mkdir()
    (place / "letter.txt").write_text("dear all")
    with pytest.raises(NotAStore, match=r"files of others, such as letter.txt"):
        open_system(place)
    place2 = place / "letter.txt"
    with pytest.raises((NotAStore, StorageError)):
        open_system(place2)
    assert (place / "letter.txt").read_text() == "dear all"


def test_who_it_is_cannot_be_told_any_more(place):
    use(place, "a")
    told = (place / "system").read_bytes()
    flip(place / "system", len(told) - 10)
    with pytest.raises((CorruptRecord, NotAStore)):
        open_system(place)
    (place / "system").write_bytes(b"nonsense")
    with pytest.raises(NotAStore, match="says nothing that perdure knows"):
        open_system(place)
    (place / "system").unlink()
    with pytest.raises(NotAStore, match="file `system` was taken away"):
        open_system(place)
    (place / "system").write_bytes(told.replace(b'prevalence": 1', b'prevalence": 9'))
    with pytest.raises(NewerFormat):
        open_system(place)
    (place / "system").write_bytes(told)
    flip(place / "reached", 12)
    with pytest.raises(CorruptJournal, match="reached is damaged"):
        open_system(place)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reached", b"one two"),
        ("reached", b"5"),
        ("reached", b"\xff"),
        ("standing", b"writer"),
        ("standing", b"king 1 x"),
    ],
)
def test_a_small_file_of_nonsense_with_a_good_checksum_is_damage(place, name, text):
    use(place, "a")
    (place / name).write_bytes(b"%08x %s\n" % (crc32(text), text))
    with pytest.raises(CorruptJournal, match="is damaged"):
        open_system(place)


class Rotting(Disk):
    """A disk that changes a byte of what is written to snapshots, and says nothing."""

    def write_held(self, token, offset, data):
        import os

        if offset and b"Tasks" in bytes(data) and "snapshot-" in os.readlink(f"/proc/self/fd/{token}"):
            data = bytes(data).replace(b"Tasks", b"Tarks")
        return super().write_held(token, offset, data)


def test_a_snapshot_that_does_not_read_back_is_none(place):
    use(place, "a")
    with open_system(place, files=Files(Rotting())) as system:
        with pytest.raises(StorageError, match="does not read back"):
            system.snapshot()
        system.root.add("b")
        assert "A snapshot could not be made" in system.said[0]
    assert sorted(path.name for path in place.glob("snapshot*")) == ["snapshot-0000000000000000000"]
    assert list(use(place)) == ["a", "b"]


def test_a_file_of_another_past_is_met(place, tmp_path):
    """A directory was copied, and both went on: files of the same names, under the same seal."""
    use(place, "one")
    other = tmp_path / "other"
    shutil.copytree(place, other)
    use(place, "two")
    use(place, "three")
    use(other, "not two")
    use(other, "not three")
    assert [path.name for path in journals(place)] == [path.name for path in journals(other)]
    kept = journals(place)[1].read_bytes()
    journals(place)[1].write_bytes(journals(other)[1].read_bytes())
    with pytest.raises(CorruptJournal, match="another past of the system") as caught:
        open_system(place)
    assert caught.value.path == str(journals(place)[2])
    folder = Folder(str(place), Files())
    folder.identify()
    found = verify(folder, KEY)
    assert found.last == 2, "command 2 is of the other past, and may be"
    assert [wrong.path for wrong in found.wrong if not wrong.lost] == [str(journals(place)[2])]
    assert repair(folder, KEY, dry_run=True).moved == [str(journals(place)[2])]
    journals(place)[1].write_bytes(kept)
    assert list(use(place)) == ["one", "two", "three"]


def test_a_file_without_commands_is_replaced_and_the_next_follows_on_the_one_before(place):
    """A process was killed after it had begun a file, and before the first command was in it."""
    use(place, "one")
    system = open_system(place)
    system._journal.begin()
    left = {path.name: path.read_bytes() for path in place.iterdir()}
    system.close()
    for name, data in left.items():
        (place / name).write_bytes(data)
    use(place, "two")
    use(place, "three")
    assert list(use(place)) == ["one", "two", "three"]
    assert parse_head(journals(place)[1].read_bytes(), "").previous[0] == 1
