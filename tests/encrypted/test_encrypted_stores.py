"""What is in an encrypted store can be read with its key alone, wherever the store is."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hoard import LARGE, WORDS, Hoard
from lair import Lair, fill

import perdure
from perdure import (
    CannotLoad,
    CorruptRecord,
    DriverMissing,
    InvalidArgument,
    Key,
    KeyMissing,
    PerdureError,
    Persistable,
    Store,
    UntrustedRecord,
    make_store,
    prevalence,
)
from perdure.backends.encrypted import at_rest
from perdure.keys import KeyRing
from perdure.objects.stores import store_on
from perdure.records import encryption
from perdure.records.frame import flags_of, parse_unverified
from perdure.records.values import ENCRYPTED, Version
from perdure.upkeep import check


class Pen(Persistable):
    def __init__(self, ink: str):
        self.ink = ink


def flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


# -- nothing can be read -----------------------------------------------------------------------------------


def words_in(data: bytes) -> list[str]:
    return [word for word in WORDS if word.encode() in data]


def test_no_word_lies_there_in_the_clear(lair: Lair) -> None:
    store = lair.open(encrypt=True)
    fill(store)
    store.backup(lair.folder / "backup")
    assert words_in(lair.everything(store)) == []
    assert words_in((lair.folder / "backup").read_bytes()) == []
    assert b"Hoard" in lair.everything(store)  # names of classes are to be seen
    assert check(store) == []


def test_without_encryption_each_word_is_found(lair: Lair) -> None:
    """Else the test above could not fail."""
    store = lair.open()
    fill(store)
    store.backup(lair.folder / "backup")
    assert words_in(lair.everything(store)) == list(WORDS)
    assert words_in((lair.folder / "backup").read_bytes()) == list(WORDS)


def test_who_has_the_key_has_all_of_it(lair: Lair) -> None:
    store = lair.open(encrypt=True)
    id_ = fill(store)
    again = lair.again(store)  # who does not say encrypt=True
    first, second, third = again.roots["plain-in-root"]
    assert (first.persistent_id, first.large, first.others) == (id_, LARGE, [second, "more"])
    assert again.find(Hoard, field="plain-in-field 3") == [third]
    assert again.find(Hoard, order_by="-field", limit=2) == [third, second]
    assert [commit.note for commit in again.transactions(2)] == ["plain-in-note again", "plain-in-note"]
    assert [version.fields["field"] for version in again.history(id_)] == ["plain-in-field 1"] * 2
    assert len(again.at(1).load(id_).others) == 1
    with again.transaction():
        third.field = "another"
    frames = list(at_rest(again.backend).scan())
    assert all(flags_of(frame) & ENCRYPTED for frame in frames)
    assert check(again) == []


def test_what_was_only_looked_at_is_not_written(lair: Lair) -> None:
    store = lair.open(encrypt=True)
    fill(store)
    again = lair.again(store)
    before = again.revision()
    with again.transaction():
        for each in again.roots["plain-in-root"]:
            each.field = str(each.field)
            each.others.append(None)
            each.others.pop()
    assert again.revision() == before


def test_undo_pack_and_collect(lair: Lair) -> None:
    store = lair.open(encrypt=True)
    id_ = fill(store)
    store.undo(2)
    assert store.load(id_).others == [store.roots["plain-in-root"][1]]
    store.roots["plain-in-root"] = []
    store.remove(store.save(Pen("plain-in-state")))
    assert store.collect().removed
    store.pack(keep=1)
    assert check(store) == []
    assert words_in(lair.everything(store)) == []


def test_a_large_piece_is_kept_once_and_goes_when_nothing_names_it(lair: Lair) -> None:
    store = lair.open(encrypt=True)
    ids = store.save_many([Pen(LARGE), Pen(LARGE), Pen(LARGE[:-1])])  # type: ignore[arg-type]
    below = at_rest(store.backend)
    assert len(below.buffers()) == 2
    again = lair.again(store)
    assert [again.load(id_).ink for id_ in ids] == [LARGE, LARGE, LARGE[:-1]]
    again.save(Pen(LARGE))  # type: ignore[arg-type]
    assert len(at_rest(again.backend).buffers()) == 2
    again.forget(ids[2])
    assert len(at_rest(again.backend).buffers()) == 1
    assert check(again) == []


# -- the setting is the store's ----------------------------------------------------------------------------


def test_an_encrypted_store_stays_so(lair: Lair) -> None:
    store = lair.open(encrypt=True)
    assert store.backend.describe().encrypted
    if lair.kind != "memory":
        store.close()
        for revision in range(2):
            with lair.open() as again:
                assert again.backend.describe().encrypted
                again.save(revision)
            with pytest.raises(InvalidArgument, match="stays so"):
                lair.open(encrypt=False)
        lair.open(encrypt=True).close()


def test_a_store_that_holds_something_is_not_made_an_encrypted_one(lair: Lair) -> None:
    store = lair.open()
    assert not store.backend.describe().encrypted
    if lair.kind == "memory":
        store.save(1)
        with pytest.raises(ValueError, match="revision 1"):
            store.backend.mark_encrypted()
        return
    store.close()
    lair.open(encrypt=True).close()  # it was empty
    with lair.open("other") as other:
        other.save(1)
        with pytest.raises(ValueError, match="revision 1"):
            other.backend.mark_encrypted()
    with pytest.raises(InvalidArgument, match="1 revision") as caught:
        lair.open("other", encrypt=True)
    assert "perdure copy --encrypt" in caught.value.hint
    with pytest.raises(InvalidArgument, match="1 revision"):
        lair.open("other", encrypt=True, read_only=True)
    assert lair.open("other", encrypt=False).load("int.1") == 1


@pytest.mark.parametrize("other_encrypts", [True, False])
def test_somebody_else_may_fill_it_while_it_is_opened(
    other_encrypts: bool, lair: Lair, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lair.kind == "memory":
        return  # of which nobody else knows
    lair.open().close()
    marks = type(at_rest(lair.open().backend)).mark_encrypted

    def after_another(backend: Any) -> None:
        monkeypatch.undo()
        with lair.open(encrypt=other_encrypts or None) as other:
            other.save(Pen("blue"))
        marks(backend)

    monkeypatch.setattr(type(at_rest(lair.open().backend)), "mark_encrypted", after_another)
    if other_encrypts:
        store = lair.open(encrypt=True)
        assert store.load(store.save(Pen("red"))).ink == "red"
        assert check(store) == []
    else:
        with pytest.raises(InvalidArgument, match="not encrypted"):
            lair.open(encrypt=True)


def test_columns_for_everybody_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    columns = {"ink": lambda pen: pen.ink}
    with pytest.raises(InvalidArgument, match="ink"):
        make_store(url, encrypt=True, extra_fields=columns)
    assert not (tmp_path / "store.db").exists()
    make_store(url, encrypt=True).close()
    with pytest.raises(InvalidArgument, match="ink"):
        make_store(url, extra_fields=columns)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path / "there", encrypt=True).close()
    encryption._library.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    try:
        for settings in ({"encrypt": True}, {}):
            with pytest.raises(DriverMissing) as caught:
                make_store(tmp_path / ("new" if settings else "there"), **settings)
            assert "perdure[encryption]" in caught.value.hint
        assert not (tmp_path / "new").exists()
        make_store(tmp_path / "plain").save(1)
    finally:
        encryption._library.cache_clear()


def test_a_backend_that_has_no_place_for_it_says_so() -> None:
    from perdure import StorageError
    from perdure.backends.base import Backend
    from perdure.backends.memory import MemoryBackend

    class Simple(MemoryBackend):
        mark_encrypted = Backend.mark_encrypted

    with pytest.raises(StorageError, match="cannot be encrypted"):
        store_on(lambda new_key: Simple(new_key=new_key), encrypt=True)
    store = store_on(lambda new_key: MemoryBackend(new_key=new_key), encrypt=True)
    assert store.load(store.save(Pen("blue"))).ink == "blue"


# -- without the key ---------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """An encrypted store in a directory, whose key is not here."""
    with make_store(tmp_path / "locked", encrypt=True) as store:
        fill(store)
        store.backup(tmp_path / "backup")
    ring = KeyRing()
    for name in ring.names():
        os.rename(ring.directory / f"{name}.key", tmp_path / f"{name}.exported")
    return tmp_path / "locked"


def test_without_the_key_every_way_to_what_is_in_it_is_a_named_error(locked: Path) -> None:
    with make_store(locked, read_only=True) as store:
        (id_, *_) = [each for each in store.list() if each.startswith("Hoard")]
        for ask in (
            lambda: store.load(id_),
            lambda: store.load(id_, trust="all"),
            lambda: store.roots["plain-in-root"],
            lambda: store.find(Hoard, field="plain-in-field 1"),
            lambda: store.count(Hoard, field="plain-in-field 1"),
            lambda: store.history(id_),
            lambda: store.at(1).load(id_),
        ):
            with pytest.raises(KeyMissing) as caught:
                ask()
            assert "perdure key import" in caught.value.hint
        assert {commit.note for commit in store.transactions()} == {"(encrypted)"}
        assert {"encrypted" in problem.what for problem in check(store) if problem.id} == {True}
        looked = str(store.inspect(id_))
        assert "Hoard" in looked
        assert "encrypted" in looked
        assert words_in(looked.encode()) == []
    with make_store(locked) as store, pytest.raises(KeyMissing):
        store.save(1)


def test_the_key_makes_all_of_it_readable_again(locked: Path) -> None:
    from perdure.keys import read_key_file

    (file,) = locked.parent.glob("*.exported")
    KeyRing().add(read_key_file(file))
    with make_store(locked) as store:
        assert store.roots["plain-in-root"][0].large == LARGE
        assert check(store) == []
    other = Key.new()
    with pytest.raises(KeyMissing):
        make_store(locked, key=other)


# -- what was changed is found ------------------------------------------------------------------------------


def put(store: Store, id_: str, frame: bytes) -> None:
    """Put a frame where a record lies; the store is in memory."""
    versions = at_rest(store.backend)._versions[int(id_.rpartition(".")[2])]  # type: ignore[attr-defined]
    versions[-1] = Version(versions[-1].revision, frame)


def at(store: Store, id_: str) -> bytes:
    return at_rest(store.backend).read([id_])[id_]


def anew(store: Store) -> Store:
    return Store(store.backend, store.key)


def test_every_flipped_bit_is_found() -> None:
    store = make_store("memory:", encrypt=True, code="off")
    id_ = store.save(Pen("blue"))
    frame = at(store, id_)
    for place in range(len(frame)):
        put(store, id_, flipped(frame, place))
        with pytest.raises(PerdureError) as caught:
            anew(store).load(id_)
        assert isinstance(caught.value, (CorruptRecord, UntrustedRecord)) or "format" in caught.value.message
        assert check(store) != []
    for length in range(0, len(frame), 7):
        put(store, id_, frame[:length])
        with pytest.raises((CorruptRecord, UntrustedRecord)):
            anew(store).load(id_)
    put(store, id_, frame)
    assert check(store) == []


@pytest.mark.parametrize("left", [b"", b"\xb7", b"\xb7PD\x03", b"x" * 40, b"\xff" * 400])
def test_what_is_left_of_a_record_is_told_by_check(left: bytes, tmp_path: Path) -> None:
    with make_store(tmp_path / "store", encrypt=True, code="off") as store:
        id_ = store.save(Pen("blue"))
    (tmp_path / "store" / id_).write_bytes(left)
    with make_store(tmp_path / "store") as store:
        assert id_ in {problem.id for problem in check(store)}
        with pytest.raises(CorruptRecord):
            store.load(id_)


def test_records_and_parts_of_them_that_were_exchanged_are_found() -> None:
    """By whoever may write, and knows how frames are made, but has no key."""
    from perdure.records.frame import encoder
    from perdure.records.values import Draft

    store = make_store("memory:", encrypt=True, code="off")
    one, two = store.save_many([Pen("blue"), Pen("red!")])
    here, there = at(store, one), at(store, two)
    put(store, one, there)
    with pytest.raises(CannotLoad, match="says that it is"):
        anew(store).load(one)
    record, other = parse_unverified(here), parse_unverified(there)
    for payload in (other.payload, record.payload[:-1], record.payload[:20], b"", bytes(len(record.payload))):
        values: dict[str, Any] = {**record._replace(payload=payload)._asdict(), "base": 0}
        revision = values.pop("revision")
        # With a right checksum and another seal; and then with the store's own seal, as a fault would make it.
        for key in (Key.new(), store.key):
            assert key is not None
            put(store, one, encoder(key)(Draft(**values), revision))
            with pytest.raises(UntrustedRecord):
                anew(store).load(one)
            with pytest.raises(UntrustedRecord):
                anew(store).load(one, trust="all")
    put(store, one, here)
    put(store, two, there)
    assert anew(store).load(two).ink == "red!"


def test_a_record_that_is_not_encrypted_is_told() -> None:
    store = make_store("memory:", encrypt=True, code="off")
    id_ = store.save(Pen("blue"))
    put(store, id_, store.backend.read([id_])[id_])
    (problem,) = check(store)
    assert (problem.id, "not encrypted" in problem.what) == (id_, True)


@pytest.mark.parametrize("change", ["flipped", "cut", "lengthened", "exchanged", "head", "gone"])
def test_large_pieces_that_were_changed_are_found(change: str) -> None:
    store = make_store("memory:", encrypt=True, code="off")
    id_, other = store.save_many([Pen(LARGE), Pen(LARGE[::-1])])  # type: ignore[arg-type]
    pieces: dict[str, bytes] = at_rest(store.backend)._buffers  # type: ignore[attr-defined]
    name, second = pieces
    content = pieces[name]
    for place in (0, 3, 5, 12, 14, 16, 40, len(content) // 2, len(content) - 1):
        if change == "gone":
            pieces.pop(name, None)
        else:
            pieces[name] = {
                "flipped": flipped(content, place),
                "cut": content[:place],
                "lengthened": content + bytes(place + 1),
                "exchanged": pieces[second],
                "head": content[:4] + bytes(8) + content[12:],
            }[change]
        with pytest.raises(CorruptRecord):
            anew(store).load(id_)
        assert check(store) != []
        assert anew(store).load(other).ink == LARGE[::-1]


def test_an_array_that_changes_while_it_is_saved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure import TransactionError
    from perdure.backends import encrypted

    store = make_store("memory:", encrypt=True, code="off")
    array = bytearray(LARGE)
    hide = encrypted.Hiding.hide_piece

    def meanwhile(self: Any, digest: str, content: Any) -> bytes:
        array[5] ^= 1
        return hide(self, digest, content)

    monkeypatch.setattr(encrypted.Hiding, "hide_piece", meanwhile)
    with pytest.raises(TransactionError, match="changed while"):
        store.save(Pen(array))  # type: ignore[arg-type]
    assert at_rest(store.backend).buffers() == {}


# -- many processes ------------------------------------------------------------------------------------------


def _save_some(url: str, count: int) -> None:
    with make_store(url) as store:
        for number in range(count):
            store.save(Pen(f"{os.getpid()} {number}"))


def test_no_nonce_comes_twice_also_after_a_fork(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    store = make_store(url, encrypt=True, code="off")
    store.save(Pen("before"))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_save_some, args=(url, 20)) for _ in range(2)]
    for child in children:
        child.start()
    child_of_open_store = os.fork()
    if not child_of_open_store:
        status = 1
        try:
            for number in range(20):
                store.save(Pen(f"child {number}"))
            status = 0
        finally:
            os._exit(status)
    for number in range(20):
        store.save(Pen(f"parent {number}"))
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert os.waitpid(child_of_open_store, 0)[1] == 0
    payloads = [parse_unverified(frame).payload for frame in at_rest(store.backend).scan()]
    assert len({payload[:28] for payload in payloads}) == len(payloads) >= 81
    salts = {payload[:16] for payload in payloads}
    assert 3 <= len(salts) <= 5  # the forked child has that of its parent: its nonces are random all the same
    assert check(store) == []


# -- engines -------------------------------------------------------------------------------------------------


def test_runs_and_systems_leave_no_word_in_the_clear(tmp_path: Path) -> None:
    import hoard

    url = f"sqlite:///{tmp_path}/store.db"
    store = make_store(url, encrypt=True)
    run = perdure.start(hoard.collecting, "plain-in-state", store=store, executor="processes", workers=1)
    assert run.result() == ["plain-in-state", LARGE]
    failed = perdure.start(hoard.failing, "plain-in-state", store=store, executor="inline")
    with pytest.raises(PerdureError, match="plain-in-field"):
        failed.result()
    with prevalence.open(store, hoard.System, name="system") as system:
        system.root.add("plain-in-state")
        system.snapshot()
    store.close()
    with make_store(url) as store:
        with prevalence.open(store, hoard.System, name="system") as system:
            assert system.root.words == ["plain-in-state"]
        assert check(store) == []
    lying = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert words_in(lying) == []
    assert b"ValueError" not in lying  # neither what went wrong, nor which state a job is in
    assert b"succeeded" not in lying
