"""Samples of classes, kept as files for ever: a record of each registered class and version, to be loaded by tests.

- A sample is the records of one object and of all that it refers to, frame after frame, the object's first.
- A file that is there is never written again: it is what that version was stored as.
- Samples are code of the project that keeps them: whoever loads them trusts them as that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from perdure.errors import CorruptRecord, InvalidArgument
from perdure.evolution.versions import Versions, registered
from perdure.files import Files
from perdure.objects.stores import MemoryStore
from perdure.pickling.classes import shown_name
from perdure.pickling.declared import versioned_of
from perdure.records.frame import decode, encoder, flags_of, frame_length
from perdure.records.values import BUFFERED, Batch, Draft

SUFFIX = ".sample"


class Frozen(NamedTuple):
    """What `freeze_samples` did: files written, files that were there, classes without an object to write."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    without: tuple[str, ...]


def freeze_samples(directory: str | os.PathLike[str], objects: Iterable[Any] = ()) -> Frozen:
    """Write a sample of each registered class in its present version, where the directory has none yet.

    The object is one of `objects` (which no store knows yet), or what `sample=` of `perdure.versioned` gives, or the
    class called without arguments; classes for which there is none are named in `.without`.
    `perdure.testing.check_samples` loads them all.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    given = {id(type(obj)): obj for obj in objects}
    classes = {
        **registered(),
        **{shown_name(type(obj)): type(obj) for obj in given.values() if not _version(type(obj))},
    }
    written, kept, without = [], [], []
    for name, cls in sorted(classes.items()):
        path = folder / sample_name(name, _version(cls))
        if path.exists():
            kept.append(path.name)
            continue
        found = given[id(cls)] if id(cls) in given else _made(cls)
        if found is None:
            without.append(name)
            continue
        Files().replace_durably(str(path), b"".join(_frames(found)))
        written.append(path.name)
    return Frozen(tuple(written), tuple(kept), tuple(without))


def sample_name(class_name: str, version: int) -> str:
    """What the file of a sample is called."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', class_name)}-{version}{SUFFIX}"


def read_sample(path: Path) -> Any:
    """The object in a sample, loaded as its class is now. Raises what loading raises, `CorruptRecord` for no sample."""
    store = MemoryStore(trust="all", code="off")
    assert store.key is not None
    drafts = [*_drafts(path.read_bytes(), path.name)]
    store.backend.apply(Batch(drafts), encoder(store.key))
    loaded: list[Any] = store.load_many([draft.id for draft in drafts])
    return loaded[0]


def missing_samples(directory: Path) -> list[str]:
    """The names of registered classes whose present version has no sample there."""
    classes = registered()
    return [name for name in sorted(classes) if not (directory / sample_name(name, _version(classes[name]))).exists()]


def _version(cls: type[Any]) -> int:
    versioned = versioned_of(cls)
    return 0 if versioned is None else versioned.version


def _made(cls: type[Any]) -> Any:
    versions = versioned_of(cls)
    if isinstance(versions, Versions) and versions.sample is not None:
        made = versions.sample()
        if type(made) is not cls:
            raise InvalidArgument(
                f"The sample of {versions.name} is a {type(made).__qualname__}.",
                hint="sample= of perdure.versioned is a function that makes an object of the class.",
            )
        return made
    try:
        return cls()
    except TypeError:
        return None  # it needs arguments


def _frames(obj: Any) -> list[bytes]:
    store = MemoryStore(code="off")
    first = str(store.save(obj))
    frames = store.backend.read([first, *map(str, store.list())])
    if any(flags_of(frame) & BUFFERED for frame in frames.values()):
        raise InvalidArgument(
            f"The sample of {type(obj).__qualname__} holds large data.",
            hint="Make a smaller one: below 64 KiB a piece.",
        )
    return [frames.pop(first), *frames.values()]


def _drafts(data: bytes, name: str) -> Iterator[Draft]:
    while data:
        length = frame_length(data)
        if length is None or length > len(data):
            raise CorruptRecord(f"{name} is no sample, or was cut short.")
        record = decode(data[:length], None, trust_all=True)
        yield Draft(*record)._replace(base=0)
        data = data[length:]
