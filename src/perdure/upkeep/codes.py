"""Which code records belong to an object, a run, a job or an attempt; and forgetting the texts that they keep.

- Headers tell it: nothing is unpickled for that.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.backends.base import Backend, number_of
from perdure.errors import NotFound
from perdure.ids import parse_id
from perdure.objects.coding import Code
from perdure.objects.payloads.codes import read_code
from perdure.objects.store import Store
from perdure.pickling.classes import name_of
from perdure.records.frame import decoder, parse_unverified
from perdure.records.values import Record

CODE = name_of(Code)
RUN, JOB, ATTEMPT = "perdure:Run", "perdure:Job", "perdure:Attempt"  # the flows are on a floor above this one
_BELOW = {RUN: JOB, JOB: ATTEMPT, ATTEMPT: CODE}


def code_ids(backend: Backend, id_: str) -> list[str]:
    """The code records of an object, or of every attempt of a run or a job, in the order of their numbers.

    Raises `NotFound` for an id that is not there, `InvalidId`.
    """
    frame = backend.read([parse_id(id_)]).get(id_)
    if frame is None:
        raise NotFound(f"There is no {id_} in this store.", hint="`perdure ls --all` lists what is.", ids=(id_,))
    record = parse_unverified(frame)
    if record.class_name == CODE:
        return [id_]
    if record.class_name not in _BELOW:
        return [record.code] if record.code else []
    return codes_below(backend, [record])


def codes_below(backend: Backend, records: Iterable[Record]) -> list[str]:
    """The code records of runs, jobs and attempts, all of one class."""
    wanted, level = "", list(records)
    while level and wanted != CODE:
        wanted = _BELOW[level[0].class_name]
        own = {record.id for record in level}
        names = backend.classes(dict.fromkeys(target for record in level for target in record.references))
        ids = [target for target, name in names.items() if name == wanted]
        if wanted == CODE:
            return sorted(ids, key=number_of)
        level = [parse_unverified(frame) for frame in backend.read(ids).values()]
        if wanted == JOB:  # a job refers to those that it needs, too
            level = [record for record in level if record.fields.get("run") in own]
        elif wanted == ATTEMPT:
            level = [record for record in level if record.fields.get("job") in own]
    return []


def forget_texts(store: Store, ids: Iterable[str]) -> list[str]:
    """Erase the texts that these code records keep, from history and files too; gives the ids of the texts.

    A text that other code records keep as well is theirs no more either. Raises as `Store.forget` does.
    """
    decode = decoder(store.key)
    sources = {source for id_ in ids for source in read_code(store.backend, decode, id_).sources.values()}
    ordered = sorted(sources, key=number_of)
    for source in ordered:
        store.forget(source)
    return ordered
