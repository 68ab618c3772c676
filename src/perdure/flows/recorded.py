"""Jobs that run with the code of their last attempts: which that is, where it is as files, how close it comes.

- Nothing is run before all of the code is there.
- `exact` takes the tree of each commit with the changed files laid over it, a lock file, and the same Python, platform
  and versions; everything less is called what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import platformdirs

from perdure.backends.base import Backend
from perdure.code.checkouts import Checkout, check_out
from perdure.code.environment import all_versions, describe_platform, describe_python
from perdure.code.values import CodeState
from perdure.errors import NotFound, SourceMissing
from perdure.flows.attempts import Attempt
from perdure.flows.model import Job, load_together
from perdure.objects.payloads.codes import read_code
from perdure.records.frame import decoder
from perdure.records.seal import Key

EXACT = "exact"
SAME_TREE = "same tree, other environment"
SOURCES = "sources only"
UNKNOWN = "unknown"


class Match(NamedTuple):
    """How close recorded code can be run: `level` is `exact`, `same tree, other environment`, `sources only`.

    `python` is the interpreter ("" for this one), `roots` what it imports from; `notes` tell what is not the same.
    """

    code: str
    level: str
    notes: tuple[str, ...]
    state: CodeState
    roots: tuple[str, ...]
    python: str


class RecordedCode(NamedTuple):
    """The code that a job is to run with: the id of its code record, that one's summary, the digest of the function."""

    id: str
    summary: str | None
    digest: str


def codes_of(jobs: Iterable[Job]) -> dict[str, RecordedCode]:
    """The code that each job ran with last, by the id of the job; of one that never ran, the code of its run.

    Raises `SourceMissing` where nothing tells it.
    """
    wanted = list(jobs)
    load_together(job.last_attempt for job in wanted)
    of_run = [job.last_attempt for job in (wanted[0].run.stored_jobs() if wanted and wanted[0].run else ())]
    load_together(of_run)
    found = {}
    for job in wanted:
        last = job.last_attempt or _fitting(job, of_run)
        if last is None or last.code is None:
            raise SourceMissing(
                f"Which code {job.name} ({job.persistent_id}) ran with is {UNKNOWN}: it has no code record.",
                hint="Run it with the code that is here: without --code recorded.",
                ids=(job.persistent_id or "",),
            )
        same = last is job.last_attempt
        digest = last.function_digest if same else ""
        found[job.persistent_id or ""] = RecordedCode(last.code.persistent_id or "", last.code_summary, digest)
    return found


def _fitting(job: Job, attempts: Iterable[Attempt | None]) -> Attempt | None:
    """The first attempt whose code has the module of the job's function; any, if none has."""
    told = [attempt for attempt in attempts if attempt is not None and attempt.code is not None]
    module = job.function.partition(":")[0]
    fits = (each for each in told if each.code is not None and each.code.state.module(module) is not None)
    return next(fits, told[0] if told else None)


def match(backend: Backend, key: Key | None, ids: Iterable[str], *, environment: bool = False) -> dict[str, Match]:
    """The code records of those ids as code that can be run; with `environment`, their environments are made anew.

    Raises `SourceMissing`, `NoEnvironment`, and what reading a code record raises.
    """
    from perdure.code.environments import make_environment  # what it imports is for who asks for it

    cache = platformdirs.user_cache_path("perdure", appauthor=False)
    found = {}
    for id_ in dict.fromkeys(ids):
        try:
            archive = read_code(backend, decoder(key), id_).archive()
        except NotFound as error:
            raise SourceMissing(f"{id_} is not in the store any more: its code is {UNKNOWN}.", ids=(id_,)) from error
        checkout = check_out(archive, cache / "code")
        python = make_environment(archive, cache) if environment else ""
        found[id_] = _match(id_, archive.state, checkout, python)
    return found


def _match(id_: str, state: CodeState, checkout: Checkout, python: str) -> Match:
    other = differences(state, remade=bool(python))
    if not checkout.trees:
        level = SOURCES
    elif checkout.whole and not other and state.locks:
        level = EXACT
    else:
        level = SAME_TREE
    if not state.locks:
        other.append("no lock file pinned the environment")
    return Match(id_, level, (*checkout.notes, *other), state, checkout.roots, python)


def differences(state: CodeState, *, remade: bool = False) -> list[str]:
    """What of the environment is not as it was recorded; of one that was `remade`, only what no package is."""
    told = []
    now = {} if remade else dict(all_versions())
    for name, was in () if remade else state.packages:
        if now.get(name) != was:
            told.append(f"{name} {was}, here {now.get(name, '(none)')}")
    for was, here in ((state.python, "" if remade else describe_python()), (state.platform, describe_platform())):
        if here and was != here:
            told.append(f"{was}, here {here}")
    return told
