"""Work on whole stores that are encrypted: nothing of them gets out, and everything comes back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hoard import LARGE, WORDS, Hoard
from lair import ON_DISK, Lair, fill

import perdure
from perdure import InvalidArgument, KeyMissing, Persistable, Store, copy_store, make_store, restore
from perdure.backends.encrypted import at_rest
from perdure.cli import main
from perdure.errors import CorruptBundle
from perdure.keys import KeyRing
from perdure.pickling.renames import Renames
from perdure.records.frame import flags_of
from perdure.records.values import ENCRYPTED
from perdure.upkeep import check
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.bundles import read_bundle, take_in, write_bundle
from perdure.upkeep.past import told
from perdure.upkeep.renaming import rename_in_store
from perdure.upkeep.renaming_back import put_back

PAIRS = [("directory", "sqlite"), ("sqlite", "directory"), ("sqlite", "postgresql"), ("mysql", "sqlite")]


@pytest.fixture
def lair(tmp_path: Path) -> Any:
    lair = Lair("directory", tmp_path)
    yield lair
    lair.close()


def words_below(folder: Path) -> set[str]:
    found = b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return {word for word in WORDS if word.encode() in found}


def same(one: Store, other: Store) -> bool:
    """Whether both have the same past, frame by frame, as their owner sees it."""
    return told(one.backend, one.revision()) == told(other.backend, other.revision())


def away_with_the_key(store: Store) -> None:
    ring = KeyRing()
    for name in ring.names():
        os.remove(ring.directory / f"{name}.key")


# -- copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_copy_is_encrypted_as_the_store_is_and_a_copy_of_that_is_not_if_that_is_said(
    source: str, target: str, packed: bool, lair: Lair
) -> None:
    store = lair.open("store", source, encrypt=True)
    id_ = fill(store)
    if packed:
        store.pack(keep=1)
    assert copy_store(lair.url("store", source), lair.url("copy", target)).sealed is True
    copy = lair.open("copy", target)
    assert copy.backend.describe().encrypted
    assert list(at_rest(copy.backend).scan()) == list(at_rest(store.backend).scan())  # carried as they are at rest
    copy_store(lair.url("copy", target), lair.url("plain", source), encrypt=False)
    plain = lair.open("plain", source)
    assert not plain.backend.describe().encrypted
    copy_store(lair.url("plain", source), lair.url("hidden", target), encrypt=True)
    hidden = lair.open("hidden", target)
    assert all(flags_of(frame) & ENCRYPTED for frame in at_rest(hidden.backend).scan())
    for other in (copy, plain, hidden):
        assert same(other, store)
        assert check(other) == []
        assert other.load(id_).large == LARGE
        assert len(other.find(Hoard, field="plain-in-field 3")) == 1
        assert [commit.note for commit in other.transactions(1)] == ["plain-in-note again"]


def test_a_later_copy_brings_what_came_since_whichever_way_it_goes(lair: Lair) -> None:
    hidden, plain = lair.open("hidden", encrypt=True), lair.open("plain")
    fill(hidden)
    fill(plain)
    urls = {name: lair.url(name) for name in ("hidden", "plain", "from hidden", "from plain")}
    for name, encrypt in (("hidden", False), ("plain", True)):
        store = {"hidden": hidden, "plain": plain}[name]
        first = copy_store(urls[name], urls[f"from {name}"], encrypt=encrypt)
        store.save(Hoard(1))
        second = copy_store(urls[name], urls[f"from {name}"], encrypt=encrypt)
        assert (first.written, second.written) == (2, 1)
        copy = lair.open(f"from {name}")
        assert same(copy, store)
        assert check(copy) == []
        assert copy.backend.describe().encrypted == encrypt
        with pytest.raises(InvalidArgument, match="should"):
            copy_store(urls[name], urls[f"from {name}"], encrypt=not encrypt)
    with pytest.raises(InvalidArgument, match="not encrypted"):
        copy_store(urls["hidden"], urls["from hidden"])  # nothing is decrypted but by who says so
    assert copy_store(urls["plain"], urls["from plain"]).written == 0  # it is encrypted already


def test_without_the_key_it_is_carried_as_it_is_and_never_opened(lair: Lair) -> None:
    store = lair.open("store", encrypt=True)
    fill(store)
    plain = lair.open("plain")
    fill(plain)
    at_rest_of_store = list(at_rest(store.backend).scan())
    away_with_the_key(store)
    copy_store(lair.url("store"), lair.url("copy", "sqlite"))
    assert list(at_rest(lair.open("copy", "sqlite").backend).scan()) == at_rest_of_store
    for source, encrypt in (("store", False), ("plain", True)):
        with pytest.raises(KeyMissing):
            copy_store(lair.url(source), lair.url(f"of {source}"), encrypt=encrypt)
        assert lair.open(f"of {source}").revision() == 0


# -- backups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ON_DISK)
def test_a_backup_and_its_increments_hold_no_word_and_bring_all_back(kind: str, lair: Lair) -> None:
    store = lair.open("store", kind, encrypt=True)
    id_ = fill(store)
    path = lair.folder / "backups" / "b"
    path.parent.mkdir()
    store.backup(path)
    store.load(id_).others.append(bytearray(LARGE[::-1]))
    with store.transaction(note="plain-in-note"):
        store.save(store.load(id_))
    store.save(Hoard(5))
    assert store.backup(path).since == 2
    assert words_below(path.parent) == set()
    assert BackupFile(path).contents().encrypted
    for other in ON_DISK:
        done = restore(path, lair.url(f"{other} again", other))
        again = lair.open(f"{other} again", other)
        assert done.sealed is True
        assert again.backend.describe().encrypted
        assert same(again, store)
        assert check(again) == []
        assert again.load(id_).others[-1] == LARGE[::-1]
    with pytest.raises(InvalidArgument, match="makes no other"):
        restore(path, lair.url("in the clear"), encrypt=False)
    forgotten = store.save(Hoard(6))
    store.backup(path)
    store.forget(forgotten, backups=[path])
    assert BackupFile(path).contents().encrypted
    restore(path, lair.url("once more"))
    assert check(lair.open("once more")) == []


def test_a_plain_backup_fills_an_encrypted_store(lair: Lair) -> None:
    store = lair.open("store")
    fill(store)
    store.backup(lair.folder / "b")
    restore(lair.folder / "b", lair.url("hidden", "sqlite"), encrypt=True)
    hidden = lair.open("hidden", "sqlite")
    assert same(hidden, store)
    assert check(hidden) == []
    assert all(flags_of(frame) & ENCRYPTED for frame in at_rest(hidden.backend).scan())


def test_a_backup_is_restored_without_the_key(lair: Lair) -> None:
    store = lair.open("store", encrypt=True)
    fill(store)
    store.backup(lair.folder / "b")
    key = store.key
    away_with_the_key(store)
    assert restore(lair.folder / "b", lair.url("again")).sealed is None
    with pytest.raises(KeyMissing):
        lair.open("again").save(1)
    assert same(lair.open("again", key=key), store)


# -- repairs -------------------------------------------------------------------------------------------------


def test_what_is_damaged_comes_back_and_what_is_put_aside_is_not_opened(lair: Lair) -> None:
    store = lair.open("store", encrypt=True)
    id_ = fill(store)
    store.backup(lair.folder / "b")
    store.close()
    here = lair.folder / "store"
    record = here / id_
    record.write_bytes(record.read_bytes()[:-30] + b"x" * 30)
    pieces = [path for path in (here / ".perdure" / "buffers").rglob("*") if path.is_file()]
    assert len(pieces) == 3
    pieces[0].write_bytes(pieces[0].read_bytes()[:-1] + b"x")
    pieces[1].unlink()
    store = lair.open("store")
    assert {"Hoard"} <= {problem.id.partition(".")[0] for problem in check(store)}
    done = store.repair(source=lair.folder / "b")
    assert (done.left, check(store)) == ((), [])
    assert store.transactions(1)[0].note == "repair"
    assert store.load(id_).large == LARGE
    assert Path(done.folder).is_dir()
    assert words_below(Path(done.folder)) == set()
    assert words_below(here) == set()


# -- names ---------------------------------------------------------------------------------------------------


class Old(Persistable):
    def __init__(self, *held: Any):
        self.held = list(held)


class New(Persistable):
    def __init__(self, *held: Any):
        self.held = list(held)


def renames() -> Renames:
    return Renames({f"{__name__}:Old": f"{__name__}:New"})


def test_names_are_changed_at_rest_and_back(lair: Lair) -> None:
    store = lair.open("store", encrypt=True, history="off")
    ids = store.save_many([Old("plain-in-state", LARGE), Old(Old, "plain-in-state")])
    with pytest.raises(InvalidArgument, match="no history"):
        rename_in_store(store, renames())
    aside = lair.folder / "aside"
    aside.mkdir()
    report = rename_in_store(store, renames(), copy_to=aside / "copy")
    assert (report.records, report.refused) == (2, ())
    assert words_below(aside) == set()
    again = lair.open("store", history="off")
    assert [type(each).__name__ for each in again.load_many(ids)] == ["New", "New"]
    assert again.load(ids[0]).held == ["plain-in-state", LARGE]
    assert again.load(ids[1]).held[0] is New
    assert check(again) == []
    assert put_back(again, renames(), aside / "copy").records == 2
    assert [type(each).__name__ for each in lair.open("store").load_many(ids)] == ["Old", "Old"]
    assert words_below(lair.folder) == set()


# -- bundles -------------------------------------------------------------------------------------------------


def test_a_bundle_goes_from_an_encrypted_store_to_another_and_to_a_plain_one(lair: Lair) -> None:
    store = lair.open("store", encrypt=True)
    id_ = fill(store)
    write_bundle(store, [id_], lair.folder / "b.perdure")
    assert words_below(lair.folder) != set()  # it is for others: they have no key of this store
    for settings in ({"encrypt": True}, {}):
        other = lair.open(f"other {len(settings)}", **settings)
        adopted = take_in(other, read_bundle(lair.folder / "b.perdure"))
        assert other.load(adopted.ids[id_]).large == LARGE
        assert check(other) == []
    assert all(flags_of(frame) & ENCRYPTED for frame in at_rest(lair.open("other 1").backend).scan())


def test_a_bundle_with_something_encrypted_in_it_is_refused(lair: Lair, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lair.open("store", encrypt=True)
    id_ = store.save(Old("plain"))
    monkeypatch.setattr(store, "backend", at_rest(store.backend))
    monkeypatch.setattr("perdure.upkeep.bundles.decode", lambda frame, key, **_: perdure.records.frame._parse(frame))
    with pytest.raises(CorruptBundle, match="encrypted"):
        write_bundle(store, [id_], lair.folder / "b.perdure")


# -- the command line ----------------------------------------------------------------------------------------


def test_the_verbs(lair: Lair, capsys: pytest.CaptureFixture[str]) -> None:
    store = lair.open("store", encrypt=True)
    id_ = fill(store)
    store.close()
    url, copy = lair.url("store"), lair.url("copy", "sqlite")
    assert main(["check", url]) == 0
    assert main(["backup", url, str(lair.folder / "b")]) == 0
    assert main(["restore", str(lair.folder / "b"), "--dry-run"]) == 0
    assert "encrypted and sealed" in capsys.readouterr().out
    assert main(["copy", url, copy, "--no-encrypt"]) == 0
    assert not make_store(copy).backend.describe().encrypted
    assert main(["copy", copy, lair.url("hidden"), "--encrypt"]) == 0
    assert make_store(lair.url("hidden")).backend.describe().encrypted
    assert main(["ls", "--store", url]) == 0
    assert "plain-in-field" in capsys.readouterr().out
    away_with_the_key(store)
    assert main(["inspect", id_, "--store", url]) == 3
    told = capsys.readouterr().out
    assert ("encrypted" in told, "plain" in told) == (True, False)
    assert main(["inspect", str(lair.folder / "store" / id_)]) == 3
    assert "encrypted" in capsys.readouterr().out
    assert main(["ls", "--store", url]) == 0
    told = capsys.readouterr().out
    assert (id_ in told, "plain" in told) == (True, False)
    assert main(["copy", url, lair.url("open"), "--no-encrypt"]) != 0
    assert "perdure key import" in capsys.readouterr().err
