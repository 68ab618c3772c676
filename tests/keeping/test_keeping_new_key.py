"""A copy with a key of its own: nothing in it carries the seal of the old one, and all of it is the same otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from pasts import Note, Places, live

from perdure import InvalidArgument, KeyMissing, Store, UntrustedRecord, copy_store
from perdure.backends.encrypted import at_rest
from perdure.cli import main
from perdure.keys import KeyRing
from perdure.objects.stores import KeyId
from perdure.records.frame import decode, flags_of, sealed_by
from perdure.records.values import ENCRYPTED
from perdure.upkeep import check
from perdure.upkeep.past import revisions_of


def told(store: Store) -> list[Any]:
    """All of a store's past, without seals."""
    found = []
    for past in revisions_of(store.backend, 0, store.revision()):
        records = [decode(frame, store.key) for frame in past.frames.values()]
        found.append((past.revision, past.commit, past.removed, records))
    return found


@pytest.mark.parametrize("encrypt", [None, True])
@pytest.mark.parametrize(("source", "target"), [("directory", "sqlite"), ("sqlite", "directory"), ("sqlite", "mysql")])
def test_everything_is_sealed_anew(source: str, target: str, encrypt: bool | None, places: Places) -> None:
    store = places.open(source, encrypt=encrypt)
    live(store)
    urls = places.url(source, "store"), places.url(target, "copy")
    store.pack(keep=3)
    store.save(Note("later"))
    assert copy_store(*urls, new_key=True).sealed is True
    copy = places.open(target, "copy")
    assert copy.key is not None
    assert copy.key != store.key
    assert copy.backend.describe().key == copy.key.id
    frames = list(at_rest(copy.backend).scan())
    assert {sealed_by(frame) for frame in frames} == {copy.key.name}
    assert {bool(flags_of(frame) & ENCRYPTED) for frame in frames} == {bool(encrypt)}
    with pytest.raises(UntrustedRecord):
        decode(frames[0], store.key)
    assert check(copy) == []
    assert len(copy.find(Note, state="large")) == 1
    assert copy.save(Note("goes on"))


def test_it_is_the_same_past_and_a_later_copy_goes_on(places: Places) -> None:
    store = places.open("sqlite")
    live(store)
    urls = places.url("sqlite", "store"), places.url("directory", "copy")
    copy_store(*urls, new_key=True)
    keys = KeyRing().names()
    live(store)
    before = places.open("directory", "copy").revision()
    assert copy_store(*urls, new_key=True).written == store.revision() - before > 0
    assert KeyRing().names() == keys  # the copy has one already
    assert told(places.open("directory", "copy")) == told(store)


def test_what_cannot_be_sealed_anew(places: Places) -> None:
    store = places.open("sqlite")
    live(store)
    url = places.url("sqlite", "store")
    places.open("directory", "same", key=KeyId(store.backend.describe().key)).close()
    with pytest.raises(InvalidArgument, match="same key"):
        copy_store(url, places.url("directory", "same"), new_key=True)
    ring = KeyRing()
    for name in ring.names():
        (ring.directory / f"{name}.key").unlink()
    with pytest.raises(KeyMissing):
        copy_store(url, places.url("directory", "copy"), new_key=True)
    assert ring.names() == []


def test_the_verb(places: Places) -> None:
    places.open("sqlite", encrypt=True).save(Note("one"))
    assert main(["copy", places.url("sqlite", "store"), places.url("sqlite", "copy"), "--new-key"]) == 0
    copy = places.open("sqlite", "copy")
    assert copy.backend.describe().encrypted
    assert len(KeyRing().names()) == 2
    assert check(copy) == []
