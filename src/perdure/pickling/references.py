"""How a payload refers to another record: a call of `reference` with a place in the record's list of references.

- Payloads hold no ids: the header does, so that an id can be looked at, checked and mapped without unpickling.
- The names that stand in payloads are `perdure:_ref` and `perdure:_named`; they are part of format 1 for ever.
"""

from __future__ import annotations

from typing import Any

from perdure.errors import CannotLoad
from perdure.pickling.classes import find


def reference(place: int) -> Any:
    """What payloads name; a store's own unpickler puts its look-up in this function's place."""
    raise CannotLoad(f"Reference {place} can only be resolved by the store that the record is in.")


reference.__module__ = "perdure"
reference.__qualname__ = reference.__name__ = "_ref"

MODULE, NAME = "perdure", "_ref"


def named(name: str) -> Any:
    """What payloads name where a class or function of the running script, or one that is a ghost's, is meant."""
    return find(name)


named.__module__ = "perdure"
named.__qualname__ = named.__name__ = NAMED = "_named"
