"""Systems that are encrypted, or compressed: nothing of them is readable without the key, and all else is as ever."""

from __future__ import annotations

import sys

import pytest
from tasks import Rename, Tasks

import perdure
from perdure import prevalence
from perdure.errors import (
    CorruptJournal,
    CorruptRecord,
    DriverMissing,
    InvalidArgument,
    KeyMissing,
    ReplayDiffers,
    UntrustedRecord,
)
from perdure.files import Files
from perdure.prevalence import command
from perdure.prevalence.codes import HIDDEN, read_code
from perdure.prevalence.folder import Folder
from perdure.prevalence.inspecting import commands_of, verify
from perdure.prevalence.packing import Packer, Unpacker
from perdure.records import encryption
from perdure.records.encryption import OVERHEAD, Cipher, new_salt
from perdure.records.seal import Key

KEY = Key(b"k" * 32)
SECRET = b"xylophone"


def use(opened, **settings):
    """A system with something secret in its journal and in two snapshots; gives its state."""
    system = opened(Tasks, code="recorded", file_bytes=2000, **settings)
    system.root.add("a xylophone", size=7)
    system.root.keep("xylophone" * 3000)
    with pytest.raises(ValueError, match="needs a text"):
        system.root.add("")
    system.snapshot()
    system.root.draw()
    system.root.add("the xylophone")
    system.execute(Rename("the xylophone", "xylophones"))
    system.check_replay()
    state = dict(system.root.open), list(system.root.done)
    system.close()
    return state


def contents(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.parametrize("compress", [False, True])
def test_nothing_is_readable_without_the_key(opened, tmp_path, compress):
    state = use(opened, encrypt=True, compress=compress)
    found = contents(tmp_path / "system")
    assert len(found) > 5
    for name, data in found.items():
        assert SECRET not in data, name
        assert b"feed the fish" not in data, name
    again = opened(Tasks)
    assert (again.root.open, again.root.done) == state
    again.root.add("one more xylophone")
    again.close()
    assert not any(SECRET in data for data in contents(tmp_path / "system").values()), "it stays encrypted"
    with prevalence.open(tmp_path / "system", key=KEY, read_only=True) as follower:
        assert "one more xylophone" in follower.root.open
    with prevalence.open(tmp_path / "system", key=KEY, until=1) as then:
        assert list(then.root.open) == ["a xylophone"]


def test_compression_alone(opened, tmp_path):
    state = use(opened, compress=True)
    found = contents(tmp_path / "system")
    assert sum(len(data) for name, data in found.items() if name.startswith(("journal", "snapshot"))) < 8000
    again = opened(Tasks)
    assert (again.root.open, again.root.done) == state


def test_a_small_command_is_stored_as_it_is_where_it_is_only_compressed(opened, tmp_path):
    with opened(Tasks, compress=True) as system:
        system.root.add("a xylophone")
    assert SECRET in contents(tmp_path / "system")["journal-0000000000000000001"]


def test_the_code_is_hidden_too(opened, tmp_path):
    use(opened, encrypt=True)
    names = [name for name in contents(tmp_path / "system") if name.startswith("code-")]
    folder = Folder(str(tmp_path / "system"), Files())
    folder.identify()
    for name in names:
        assert contents(tmp_path / "system")[name][4:].startswith(HIDDEN)
        found = read_code(folder, KEY, name.partition("-")[2])
        assert any("The to-do list of the article" in text for text in found.texts.values())
        with pytest.raises(KeyMissing):
            read_code(folder, None, name.partition("-")[2])
    assert names


def test_without_the_key_one_sees_names_and_times(opened, tmp_path):
    use(opened, encrypt=True)
    folder = Folder(str(tmp_path / "system"), Files())
    folder.identify()
    told = list(commands_of(folder, None))
    assert [each.name.rpartition(".")[2] for each in told][:2] == ["add", "keep"]
    assert {each.arguments for each in told} == {None}
    assert verify(folder, KEY).wrong == []
    assert next(iter(commands_of(folder, KEY))).arguments == {"args": ("a xylophone",), "size": 7}
    with pytest.raises(KeyMissing):
        prevalence.open(tmp_path / "system", trust="all", read_only=True)


def test_a_system_can_be_encrypted_later_and_stays_so(opened, tmp_path):
    with opened(Tasks) as system:
        system.root.add("not secret")
    with opened(Tasks, encrypt=True) as system:
        system.root.add("a xylophone")
        system.snapshot()
    with opened(Tasks) as system:
        assert list(system.root.open) == ["not secret", "a xylophone"]
        system.root.add("another xylophone")
    assert not any(SECRET in data for data in contents(tmp_path / "system").values())
    with pytest.raises(InvalidArgument, match="stays so"):
        opened(Tasks, encrypt=False)


def test_a_standby_of_an_encrypted_system_is_encrypted(opened, tmp_path):
    system = opened(Tasks, encrypt=True, serve="127.0.0.1:0")
    system.root.add("a xylophone")
    given = {"key": KEY, "code": "off", "freeze": False}
    with prevalence.standby(tmp_path / "standby", tmp_path / "system", **given) as standby:
        system.root.add("more xylophones")
        standby.wait_for(2)
        assert standby.snapshot().sequence == 2
    assert not any(SECRET in data for data in contents(tmp_path / "standby").values())
    with prevalence.open(tmp_path / "standby", key=KEY, read_only=True) as found:
        assert list(found.root.open) == ["a xylophone", "more xylophones"]


def test_a_system_in_a_store_can_be_encrypted(tmp_path):
    store = perdure.make_store(f"sqlite:///{tmp_path}/store.db")
    with prevalence.open(store, Tasks, encrypt=True, code="off") as system:
        system.root.add("a xylophone")
        system.snapshot()
    with prevalence.open(store, Tasks) as system:
        assert "a xylophone" in system.root.open
    store.close()
    assert SECRET not in (tmp_path / "store.db").read_bytes()


def test_a_snapshot_that_is_damaged_or_of_another_key_is_not_opened(opened, tmp_path):
    use(opened, encrypt=True, keep=1)
    path = max((tmp_path / "system").glob("snapshot-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptJournal):
        opened(Tasks)


def test_a_package_that_is_missing_is_named(opened, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    encryption._library.cache_clear()
    try:
        with pytest.raises(DriverMissing, match=r"perdure\[encryption\]"):
            opened(Tasks, encrypt=True)
        with opened(Tasks, place="plain") as system:
            system.root.add("one")
    finally:
        monkeypatch.undo()
        encryption._library.cache_clear()


# -- the parts -------------------------------------------------------------------------------------------


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_cipher_opens_what_it_hid_and_nothing_else():
    salt = new_salt()
    cipher = Cipher(KEY, salt)
    message = cipher.hide(b"a xylophone", b"place")
    assert len(message) == 11 + OVERHEAD
    assert cipher.hide(b"a xylophone", b"place") != message
    assert Cipher(KEY, salt).open(memoryview(message), b"place") == b"a xylophone"
    assert cipher.open(cipher.hide(b"", b""), b"") == b""
    others = [
        (Cipher(KEY, new_salt()), message, b"place"),
        (Cipher(Key(b"o" * 32), salt), message, b"place"),
        (cipher, message, b"other place"),
        (cipher, message[:-1], b"place"),
        (cipher, b"", b"place"),
        *((cipher, flipped(message, at), b"place") for at in range(len(message))),
    ]
    for other, changed, about in others:
        with pytest.raises(UntrustedRecord, match="cannot be opened"):
            other.open(changed, about)
    with pytest.raises(ValueError, match="16 bytes"):
        Cipher(KEY, b"short")


def test_arguments_are_bound_to_their_place():
    seed = new_salt()
    packer = Packer(KEY, seed, compress=True)
    for content in (b"short", b"long" * 5000):
        stored = packer.pack(content, 7)
        assert len(stored) < len(content) / 4 or len(stored) == len(content) + OVERHEAD + 1
        assert Unpacker(KEY, seed).unpack(stored, 7) == content
        with pytest.raises(UntrustedRecord):
            Unpacker(KEY, seed).unpack(stored, 8)
        with pytest.raises(UntrustedRecord):
            Unpacker(KEY, new_salt()).unpack(stored, 7)
        with pytest.raises(KeyMissing):
            Unpacker(None, seed).unpack(stored, 7)
    with pytest.raises(CorruptRecord):
        Unpacker(KEY, seed).unpack(b"\0rest", 7)
    assert Packer(None, seed, compress=True).pack(b"short", 7) is None


class Fickle:
    """A root whose command depends on what it should not."""

    refuses = False

    @command
    def step(self, text):
        if Fickle.refuses:
            raise ValueError(text)


def test_a_command_that_raises_on_replay_is_told_by_name(opened, monkeypatch):
    with opened(Fickle, encrypt=True) as system:
        system.root.step("one")
        system.root.step("two")
    monkeypatch.setattr(Fickle, "refuses", True)
    with pytest.raises(ReplayDiffers, match=r"Command 1 \(Fickle.step\) raises ValueError now: one"):
        opened(Fickle)
