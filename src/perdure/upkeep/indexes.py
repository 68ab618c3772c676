"""Compares the indexes of a store with the headers that they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perdure.backends.base import Backend, number_of
from perdure.errors import PerdureError
from perdure.records.frame import parse_unverified
from perdure.records.queries import Query, arrange
from perdure.records.values import Fields

SHOWN = 20  # ids of one index that are named


Headers = Mapping[str, Mapping[str, Fields]]  # class -> id -> what its header tells


def check_indexes(backend: Backend, headers: Headers | None = None) -> Iterator[tuple[str, str]]:
    """The ids that an index misses, has without reason, or has under another value than their headers tell.

    `headers` are those of the records of all classes that have an index, if they are known already.
    """
    for name, fields in backend.indexes().items():
        told = _told(backend, name) if headers is None else headers.get(name, {})
        for field in fields:
            query = Query((name,), order=((field, False),))
            expected = arrange(((id_, number_of(id_), each) for id_, each in told.items() if field in each), query)
            try:
                found = backend.find(query).ids
            except PerdureError as error:
                yield "", f"The index of {field!r} of {name} cannot be read: {error.message}"
                continue
            missing = set(expected).difference(found)
            surplus = set(found).difference(expected)
            common = [id_ for id_ in found if id_ not in surplus]
            displaced = [
                id_
                for id_, other in zip(common, [id_ for id_ in expected if id_ not in missing], strict=True)
                if id_ != other
            ]
            for what, ids in (
                ("is missing in", missing), ("is without reason in", surplus), ("is at the wrong place in", displaced)
            ):  # fmt: skip
                for id_ in sorted(ids, key=number_of)[:SHOWN]:
                    yield id_, f"{what} the index of {field!r} of {name}"


def _told(backend: Backend, name: str) -> dict[str, Fields]:
    """The fields in the headers of a class; a damaged record is told elsewhere."""
    found = {}
    for frame in backend.scan(class_name=name):
        try:
            record = parse_unverified(frame)
        except PerdureError:
            continue
        found[record.id] = record.fields
    return found
