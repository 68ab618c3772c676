"""Writes the store `large` of this folder, once, by the release that brought format 2; later ones only read it.

Run it in this folder. The store is sealed with the key of `format-1/make.py`, which is no secret. Its plain values are
one with large pieces (`BUFFERED`), one that is `COMPRESSED`, and one that is both.
"""

from __future__ import annotations

import perdure
from perdure.records.seal import Key

KEY = Key(bytes(range(32)))
MANY = [str(number) for number in range(3000)]
VALUES = [
    {"zeros": bytes(65536), "changing": bytearray(b"ab" * 32768), "text": "ünï!" * 11000, "small": [1, "two"]},
    MANY,
    {"zeros": bytes(65536), "many": MANY},
]

if __name__ == "__main__":
    with perdure.make_store("large", key=KEY, code="off") as store:
        store.save_many(VALUES)
