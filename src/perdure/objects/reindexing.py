"""Brings a full store to the index that its classes have now: what lacks a field in its header is written anew.

- Each batch is a transaction of its own; what others changed meanwhile is looked at again, never overwritten.
- Only records that lack a field are written, so that it may be cut off and begun again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from perdure.backends.base import chunks
from perdure.errors import ConflictError
from perdure.objects.finding import Finding
from perdure.objects.instances.guests import is_guest, is_record
from perdure.objects.instances.persistable import ENTRIES
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.steps import replace
from perdure.objects.transactions.transaction import Transaction
from perdure.records.frame import parse_unverified
from perdure.records.queries import Query

ATTEMPTS = 20  # to write a batch of which others write something at the same time

Progress = Callable[[int, int], None]


def reindex(
    finding: Finding,
    desk: Desk,
    cls: type[Any] | str,
    *,
    subclasses: bool = True,
    batch: int = 500,
    progress: Progress | None = None,
) -> int:
    """See `Store.reindex`. The desk is for this alone: its view is moved forward and lets its objects go."""
    desk.require_writable()
    asked = finding.asked(cls, {}, subclasses=subclasses)
    written = done = 0
    for fields, names in _by_fields(finding, desk, asked.cls, subclasses=asked.subclasses).items():
        note = f"index of {', '.join(fields)}"
        ids = list(_lacking(desk, names, fields))
        for chunk in chunks(ids, batch):
            written += _rewrite(desk, chunk, fields, note)
            done += len(chunk)
            if progress is not None:
                progress(done, len(ids))
        query = Query(names, order=tuple((field, False) for field in fields))
        before: list[str] = []
        while rest := desk.view.backend.lacking(query):  # the header tells more than the index, or saved meanwhile
            again = 0 if rest == before else _rewrite(desk, rest, (), note)
            written, before = written + again, rest
            if not again:
                break
    return written


def _by_fields(
    finding: Finding, desk: Desk, cls: type[Any], *, subclasses: bool
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes, by the fields that their records must tell."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, each in finding.classes(desk, cls, subclasses=subclasses):
        fields = finding.fields_of(each)
        if fields:
            found[fields] = (*found.get(fields, ()), name)
    return found


def _lacking(desk: Desk, names: Sequence[str], fields: Sequence[str]) -> Iterator[str]:
    for name in names:
        for frame in desk.view.backend.scan(class_name=name):
            record = parse_unverified(frame)
            if any(field not in record.fields for field in fields):
                yield record.id


def _rewrite(desk: Desk, ids: Sequence[str], fields: Sequence[str], note: str) -> int:
    """Write those of the ids that are there and lack one of the fields (without `fields`: all of them)."""
    view = desk.view
    attempt = 0
    while True:
        attempt += 1
        try:
            with Transaction(desk, note):
                frames = view.backend.read(ids, view.revision)
                there = [
                    id_
                    for id_, frame in frames.items()
                    if not fields or any(field not in parse_unverified(frame).fields for field in fields)
                ]
                for id_, obj in zip(there, view.load_many(there), strict=True):
                    if not is_record(obj):
                        replace(desk, id_, obj)
                    elif is_guest(obj):
                        obj._p_activate()
                        obj._p_changed = True
                    else:
                        view.touch(ENTRIES[id(obj)], obj, force=True)
            return len(there)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.001 * 2 ** min(attempt, 7)))
