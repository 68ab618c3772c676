"""Writes the store `parts` of this folder, once, as format 2 was when it was new: later releases only read it.

Run it in this folder. The store is sealed with the key of `format-1/make.py`, which is no secret. The values of each
record (`SHAPED`) are a whole pickle, with its opcodes PROTO and FRAME; since then those that name nothing lack both.
"""

from __future__ import annotations

from typing import Any

from format2_parts import Part

import perdure
from perdure.records.seal import Key

KEY = Key(bytes(range(32)))
PLAIN: list[dict[str, Any]] = [
    {"number": 1, "name": "one", "price": 0.25, "tags": ["a", "bc"], "sizes": {"wide": 3, "high": None}},
    {"number": 70_000, "name": "", "price": -1.5, "tags": [], "sizes": {}},
    {"many": [str(number) for number in range(10_000)]},  # several frames
]

if __name__ == "__main__":
    with perdure.make_store("parts", key=KEY, code="off") as store:
        first = Part(name="first")
        store.save(Part(both=[first, {"of": first}], owner=first))  # from then on `owner` is known as a reference
        store.save_many([Part(**state, owner=first) for state in PLAIN])
