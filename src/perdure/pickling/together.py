"""Many references to the outside in one call: for kinds that were registered with `many`.

- The keys are known before anything is loaded: payloads are gone through once more, which makes nothing of theirs.
- What `many` does not give is asked for one by one, as it would have been without it; so is a lone key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.errors import CannotResolve, PerdureError
from perdure.pickling.outline import joined, outside_references
from perdure.pickling.outside import BATCHED, Kind, Resources, is_plain, same_text

Payload = tuple[str, bytes, int]  # what it is called in errors, and the flags of its record


def resolved_together(payloads: Iterable[Payload], resources: Resources) -> dict[str, Any]:
    """What the references in these payloads are, as far as `many` gives it, by `same_text` of tag and key."""
    if not BATCHED:
        return {}
    wanted: dict[str, dict[Any, str]] = {}  # tag -> key -> text; of keys that Python takes for equal the first
    paths: dict[str, str] = {}  # tag -> where the first reference is
    for name, payload, flags in payloads:
        for steps, tag, key in outside_references(payload, flags):
            if is_plain(tag, key) and tag in BATCHED:
                wanted.setdefault(tag, {}).setdefault(key, same_text(tag, key))
                paths.setdefault(tag, joined(name, steps))
    found: dict[str, Any] = {}
    for tag, texts in wanted.items():
        kind = BATCHED.get(tag)
        if kind is not None and len(texts) > 1:
            given = _given(kind, list(texts), resources, paths[tag])
            found.update((text, given[key]) for key, text in texts.items() if isinstance(given.get(key), kind.cls))
    return found


def _given(kind: Kind, keys: list[Any], resources: Resources, path: str) -> Mapping[Any, Any]:
    assert kind.many is not None
    try:
        given = kind.many(keys, resources)
    except CannotResolve as error:
        raise _placed(error.message, error.hint, kind, keys, path) from error.__cause__
    except Exception as error:  # the user's function: anything may come out, and it is why there are no objects
        if isinstance(error, PerdureError) and error.retryable:
            raise
        raise _placed(f"{type(error).__name__}: {error}", _WHOLE, kind, keys, path) from error
    if not isinstance(given, Mapping):
        told = f"the function registered for many gave {type(given).__qualname__}, not a mapping"
        raise _placed(told, "It must map keys to objects.", kind, keys, path)
    return given


_WHOLE = "The records are whole; they load as soon as what they refer to is there again."


def _placed(told: str, hint: str, kind: Kind, keys: list[Any], path: str) -> CannotResolve:
    return CannotResolve(
        f"{path}: The {kind.tag} with the key {keys[0]!r:.80}, and {len(keys) - 1} more, cannot be had: {told}",
        hint=hint,
        path=path,
        tag=kind.tag,
        key=keys[0],
    )
