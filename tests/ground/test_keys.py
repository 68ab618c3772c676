"""The key ring: keys are kept, found, never overwritten, and nobody else's."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.errors import AccessDenied, CorruptRecord, KeyMissing, NewerFormat
from perdure.files import Disk, Files
from perdure.keys import KeyRing, read_key_file, write_key_file
from perdure.records.seal import Key
from perdure.testing.crashes import SimulatedDisk
from perdure.testing.faults import FaultyDisk


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "perdure" / "keys")


def test_a_key_that_was_made_is_found_by_every_ring(ring: KeyRing):
    key = ring.make()
    assert KeyRing(ring.directory).get(key.id) == key
    assert ring.names() == [key.name]
    assert ring.require(key.id) == key


def test_a_ring_without_keys_is_empty_and_makes_nothing(ring: KeyRing):
    assert ring.names() == []
    assert ring.get(17) is None
    with pytest.raises(KeyMissing, match="perdure key import") as caught:
        ring.require(17)
    assert "00000011" in str(caught.value)
    assert not ring.directory.exists()


def test_nobody_else_may_read_the_keys(ring: KeyRing):
    ring.personal()
    assert os.stat(ring.directory).st_mode & 0o777 == 0o700
    for path in ring.directory.glob("*.key"):
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_the_default_place_is_the_users_configuration(own_environment: Path):
    key = KeyRing().make()
    assert list(own_environment.rglob(f"perdure/keys/{key.name}.key"))


def test_the_personal_key_stays_the_same(ring: KeyRing):
    other = ring.make()
    key = ring.personal()
    assert key != other
    assert ring.personal() == KeyRing(ring.directory).personal() == key
    assert ring.get(key.id) == key
    assert ring.names() == sorted([key.name, other.name])
    (ring.directory / f"{key.name}.key").unlink()
    with pytest.raises(KeyMissing):
        ring.personal()
    (ring.directory / "personal").write_text("../secret")
    with pytest.raises(CorruptRecord):
        ring.personal()


def test_processes_that_ask_at_once_get_one_personal_key():
    program = "from perdure.keys import KeyRing; print(KeyRing().personal().name)"
    workers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = {(worker.communicate()[0] or "").strip() for worker in workers}
    assert names == set(KeyRing().names())
    assert len(names) == 1


def test_adding_twice_is_fine_and_another_key_is_never_overwritten(ring: KeyRing, tmp_path: Path):
    key, other = Key.new(), Key.new()
    ring.add(key)
    ring.add(key)
    path = tmp_path / "for-safe-keeping"
    write_key_file(path, key)
    write_key_file(path, key)
    with pytest.raises(AccessDenied, match="another key"):
        write_key_file(path, other)
    assert read_key_file(path) == key
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(CorruptRecord):
        write_key_file(notes, key)
    assert notes.read_text() == "mine"


def test_a_key_file_that_is_missing_damaged_or_newer_is_named(tmp_path: Path):
    path = tmp_path / "key"
    with pytest.raises(KeyMissing):
        read_key_file(path)
    key = Key.new()
    write_key_file(path, key)
    text = path.read_text()
    assert text.startswith(f"perdure key 1 {key.name}\n")
    flipped = text.replace(
        key.secret.hex(), key.secret.hex().translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    )
    renamed = text.replace(key.name, f"{key.id ^ 1:08x}", 1)
    for damaged in ("", "rubbish", text[:-5], text[:60], flipped, renamed, text + "more"):
        path.write_text(damaged)
        with pytest.raises(CorruptRecord, match=str(path)):
            read_key_file(path)
    path.write_text(text.replace("key 1", "key 2"))
    with pytest.raises(NewerFormat):
        read_key_file(path)


def test_a_file_without_end_is_no_key_file(tmp_path: Path):
    path = tmp_path / "key"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(CorruptRecord, match="no key file"):
        read_key_file(path)


def test_a_file_under_another_keys_name_is_refused(ring: KeyRing):
    key = ring.make()
    (ring.directory / f"{key.name}.key").rename(ring.directory / "00000001.key")
    with pytest.raises(CorruptRecord):
        ring.get(1)


def test_a_home_that_cannot_be_written_is_named(ring: KeyRing):
    closed = KeyRing(ring.directory, files=Files(FaultyDisk(Disk(), 0, error=errno.EACCES)))
    with pytest.raises(AccessDenied, match="perdure"):
        closed.personal()


def test_a_key_is_durable_when_it_is_given():
    disk = SimulatedDisk()
    key = KeyRing("/data/keys", files=Files(disk)).personal()
    import random

    after_a_power_cut = next(disk.images(random.Random(1), 4))
    assert KeyRing("/data/keys", files=Files(SimulatedDisk(after_a_power_cut))).personal() == key
