"""Writes the files of this folder, once, by the release that brought format 1; later releases only read them.

Run it in this folder. The key is no secret: it is there so that the seals can be verified for ever.
"""

from __future__ import annotations

import datetime
import io
import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import perdure
from perdure.records.frame import encoder
from perdure.records.seal import Key
from perdure.records.values import INTERNAL, STATE, Draft

KEY = Key(bytes(range(32)))
DEPTH = 20_000
REVISIONS = {"record": 7, "wide": 2**32 + 7}


def plain() -> dict[str, Any]:
    """Every kind of plain value, a shared list and a cycle."""
    shared = [1, 2, 3]
    value: dict[str, Any] = {
        "none": None,
        "bools": [True, False],
        "ints": [0, -1, 2**31, 10**40],
        "floats": [0.5, -0.0, float("inf")],
        "complex": 1 - 2j,
        "texts": ["", "plain", "Пример 日本語", "\ud800"],
        "bytes": [b"", b"\x00\xff", bytearray(b"raw")],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "sets": [set(), {1, 2}, frozenset({"a"})],
        "shared": [shared, shared],
    }
    value["itself"] = value
    return value


def instances() -> list[Any]:
    """Instances of the standard library's classes, which every Python has."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    groups["a"].append(1)
    return [
        datetime.datetime(2002, 11, 1, 12, 30, tzinfo=datetime.UTC),
        datetime.date(2002, 11, 1),
        Decimal("0.10"),
        Fraction(1, 3),
        OrderedDict(b=1, a=2),
        Counter("abca"),
        deque([1, 2], maxlen=3),
        groups,
        range(3),
        ValueError("no"),
    ]


def deep() -> list[Any]:
    """Lists nested too deeply for C pickle."""
    value: list[Any] = []
    for _ in range(DEPTH):
        value = [value]
    return value


def draft() -> Draft:
    """A record with something in every part of its frame."""
    payload = pickle.dumps({"name": "Ada"}, 5)
    references = ("Item.1", "Item.2")
    fields = {"name": "Ada", "age": 36, "fit": True, "note": None, "rate": 0.5}
    return Draft("User.17", 0, STATE | INTERNAL, "shop:User", 3, "Code.2", references, fields, payload)


def main(folder: Path) -> None:
    for protocol in range(6):
        (folder / f"plain-{protocol}.frame").write_bytes(perdure.dumps(plain(), protocol, key=KEY))
    (folder / "instances.frame").write_bytes(perdure.dumps(instances(), key=KEY))
    (folder / "deep.frame").write_bytes(perdure.dumps(deep(), key=KEY))
    several = io.BytesIO()
    for value in ("apple", {1: "One", 2: "Two"}, ["fee", "fie"]):
        perdure.dump(value, several, key=KEY)
    (folder / "several.frames").write_bytes(several.getvalue())
    chain = io.BytesIO()
    a: list[Any] = [1, 2]
    b: list[Any] = [3, 4, a]
    a.append(b)
    pickler = perdure.Pickler(chain, key=KEY)
    pickler.dump(a)
    pickler.dump(b)
    pickler.clear_memo()
    pickler.dump(b)
    (folder / "chain.frames").write_bytes(chain.getvalue())
    buffers: list[pickle.PickleBuffer] = []
    frame = perdure.dumps(pickle.PickleBuffer(b"out of band"), key=KEY, buffer_callback=buffers.append)
    (folder / "buffer.frame").write_bytes(frame)
    (folder / "buffer.raw").write_bytes(b"".join(bytes(buffer) for buffer in buffers))
    for name, revision in REVISIONS.items():
        (folder / f"{name}.frame").write_bytes(encoder(KEY)(draft(), revision))


if __name__ == "__main__":
    main(Path(__file__).resolve().parent)
