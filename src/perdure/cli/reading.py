"""Reads runs, jobs, attempts and any other record by their headers: nothing is unpickled, nothing is imported.

- So the verbs that look work when the classes are gone, and never run anything of the user's.
- Seals are verified. Without the store's key that cannot be done: then the reader says so, and only looks.
- A record that is damaged or has no good seal is noted among the faults; the others are shown all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from perdure.errors import CorruptRecord, FlowError, KeyMissing, NewerFormat, NotFound, UntrustedRecord
from perdure.flows import Attempt, Job, JobState, Run, RunState
from perdure.flows.states import ENDED, UNDONE
from perdure.ids import parse_id
from perdure.objects.history import ObjectVersion
from perdure.objects.store import Store
from perdure.ownership import owner_of
from perdure.pickling.classes import name_of
from perdure.records.frame import decode, parse_unverified
from perdure.records.values import ENCRYPTED, Record

RUN, JOB, ATTEMPT = name_of(Run), name_of(Job), name_of(Attempt)
LAST = "last"
STATES = [str(state) for state in JobState]
BAD_STATES = [str(state) for state in JobState if state in UNDONE]


class RunRow(NamedTuple):
    """A run, as its record's header tells. `took`: the seconds in which somebody drove it, as far as known."""

    id: str
    state: str
    flow: str
    arguments: str
    source: str
    owner: str
    created: float
    ended: float | None
    took: float | None
    total: int
    alive: bool


class JobRow(NamedTuple):
    """A job, as its record's header tells."""

    id: str
    name: str
    state: str
    function: str
    arguments: str
    attempts: int
    started: float | None
    ended: float | None
    error: str
    code: str
    references: tuple[str, ...]

    @property
    def call(self) -> str:
        return f"{self.name}({self.arguments})"


class AttemptRow(NamedTuple):
    """An attempt, as its record's header tells."""

    id: str
    job: str
    number: int
    state: str
    started: float
    ended: float | None
    host: str
    pid: int
    code: str
    error_type: str
    error: str
    traceback: str

    @property
    def took(self) -> float | None:
        return None if self.ended is None else self.ended - self.started

    @property
    def first_line(self) -> str:
        """The error in one line, with an ellipsis if there are more; "" if there is none."""
        first, *more = self.error.strip().splitlines() or [""]
        text = f"{first.rstrip()} …" if more else first
        return f"{self.error_type}: {text}".rstrip(": ") if self.error_type else text


class Reader:
    """Reads the records of one store. `faults` are the sentences about those that could not be read."""

    def __init__(self, store: Store):
        self.backend = store.backend
        self._key = store.key
        self.faults: list[str] = []
        described = self.backend.describe()
        self.unverified = store.key is None and bool(described.key)
        self.key_name = f"{described.key:08x}"

    # -- records -----------------------------------------------------------------------------------------

    def record(self, frame: bytes) -> Record | None:
        """The record in a frame; None, and a fault, if it cannot be read."""
        try:
            return parse_unverified(frame) if self.unverified else decode(frame, self._key)
        except (CorruptRecord, NewerFormat, UntrustedRecord) as error:
            self.faults.append(str(error))
            return None

    def records(self, *, class_name: str | None = None, internal: bool | None = None) -> Iterator[Record]:
        """All records that can be read, of one class, or the user's only (`internal=False`)."""
        for frame in self.backend.scan(class_name=class_name, internal=internal):
            record = self.record(frame)
            if record is not None:
                yield record

    def read(self, ids: Iterable[str], class_name: str) -> list[Record]:
        """Those of the ids that are records of that class, in the order of their numbers."""
        classes = self.backend.classes(list(ids))
        frames = self.backend.read([id_ for id_, found in classes.items() if found == class_name])
        records = (self.record(frame) for frame in frames.values())
        return sorted((record for record in records if record is not None), key=lambda record: parse_id(record.id))

    def one(self, id_: str) -> Record:
        """The record of that id; raises `InvalidId`, `NotFound`, and what is wrong with it."""
        frame = self.backend.read([parse_id(id_)]).get(id_)
        if frame is None:
            raise NotFound(f"There is no {id_} in this store.", hint="`perdure ls --all` lists what is.", ids=(id_,))
        return parse_unverified(frame) if self.unverified else decode(frame, self._key)

    def versions(self, id_: str) -> list[ObjectVersion]:
        """Every stored version of an object, newest first; raises `NotFound`."""
        found = []
        versions = self.backend.history(parse_id(id_))
        commits = self.backend.commits_of([version.revision for version in versions])
        for revision, frame in versions:
            commit = commits.get(revision)
            time, note, code = (None, "", "") if commit is None else (commit.time, commit.note, commit.code)
            record = None if frame is None else self.record(frame)
            if record is None:
                found.append(ObjectVersion(revision, time, note, "", {}, (), code, frame is None))
            else:
                facts = (record.class_name, record.fields, record.references, record.code)
                found.append(ObjectVersion(revision, time, note, *facts, False))
        if not found:
            raise NotFound(f"There never was a {id_} in this store.", hint="`perdure ls` lists the ids.", ids=(id_,))
        return found

    # -- runs --------------------------------------------------------------------------------------------

    def run_records(self) -> list[Record]:
        """The records of all runs, newest first."""
        return sorted(self.records(class_name=RUN), key=lambda record: parse_id(record.id), reverse=True)

    def run_record(self, id_: str) -> Record:
        """The record of a run, by its id or `last`; raises a sentence for anything else."""
        if id_ == LAST:
            newest = self.run_records()[:1]
            if not newest:
                raise NotFound("There is no run in this store yet.", hint="perdure run FILE FLOW makes the first one.")
            return newest[0]
        record = self.one(id_)
        if record.class_name == JOB:
            run = record.fields.get("run")
            raise FlowError(f"{id_} is a job of {run}.", hint=f"perdure history {id_} tells its attempts.", ids=(id_,))
        if record.class_name != RUN:
            raise FlowError(
                f"{id_} is no run, but a {record.class_name}.", hint="perdure runs lists the runs.", ids=(id_,)
            )
        return record

    def run(self, record: Record) -> RunRow:
        """What the list of runs shows of it; a run whose owner is gone is `interrupted`."""
        if record.flags & ENCRYPTED:
            raise KeyMissing(f"{record.id} is encrypted, and the store's key {self.key_name} is not on this machine.")
        fields: dict[str, Any] = dict(record.fields)
        owner = owner_of(str(fields.get("owner") or ""))
        alive = owner is not None and owner.lives()
        state = str(fields.get("state", ""))
        if state not in ENDED and not alive:
            now = self.one(record.id)
            if now.revision != record.revision:
                return self.run(now)  # it ended, or found a new owner, between the two looks
            state = RunState.INTERRUPTED
        return RunRow(
            id=record.id, state=str(state), flow=fields.get("flow", ""), arguments=fields.get("arguments", ""),
            source=fields.get("source", ""), owner=str(owner) if owner is not None and alive else "",
            created=fields.get("created", 0.0), ended=fields.get("ended"), took=self._took(record.id),
            total=fields.get("jobs", 0), alive=alive,
        )  # fmt: skip

    def _took(self, id_: str) -> float | None:
        """The seconds from each beginning to the end that followed it."""
        took, begun = None, None
        for version in reversed(self.versions(id_)):
            state = version.fields.get("state")
            if version.time is None:
                begun = None  # its commit was packed
            elif state in ENDED and begun is not None:
                took, begun = (took or 0.0) + version.time - begun, None
            elif state == RunState.RUNNING:
                begun = version.time
        return took

    def jobs(self, run: Record, row: RunRow) -> list[JobRow]:
        """The jobs of a run, in the order in which the flow made them."""
        records = [job for job in self.read(run.references, JOB) if job.fields.get("run") == run.id]
        return [self.job(record, row.alive) for record in records]

    def job(self, record: Record, alive: bool) -> JobRow:
        """What is shown of a job; one that runs in a run without an owner is `interrupted`."""
        fields: dict[str, Any] = dict(record.fields)
        state = str(fields.get("state", ""))
        if state == JobState.RUNNING and not alive:
            state = str(JobState.INTERRUPTED)
        return JobRow(
            id=record.id, name=fields.get("name", ""), state=state, function=fields.get("function", ""),
            arguments=fields.get("arguments", ""), attempts=fields.get("attempts", 0), started=fields.get("started"),
            ended=fields.get("ended"), error=fields.get("error", ""), code=fields.get("code") or "",
            references=record.references,
        )  # fmt: skip

    def attempts(self, jobs: Iterable[JobRow], *, alive: bool) -> dict[str, list[AttemptRow]]:
        """The attempts of these jobs, oldest first, by the job's id."""
        wanted = list(jobs)
        found: dict[str, list[AttemptRow]] = {job.id: [] for job in wanted}
        ids = dict.fromkeys(id_ for job in wanted for id_ in job.references)
        for record in self.read(ids, ATTEMPT):
            fields: dict[str, Any] = dict(record.fields)
            state = fields.get("state", "")
            if state == JobState.RUNNING and not alive:
                state = str(JobState.INTERRUPTED)
            row = AttemptRow(
                id=record.id, job=fields.get("job", ""), number=fields.get("number", 0), state=state,
                started=fields.get("started", 0.0), ended=fields.get("ended"), host=fields.get("host", ""),
                pid=fields.get("pid", 0), code=fields.get("code") or "", error_type=fields.get("error_type", ""),
                error=fields.get("error", ""), traceback=fields.get("traceback", ""),
            )  # fmt: skip
            if row.job in found:
                found[row.job].append(row)
        return found


def state_counts(rows: Iterable[JobRow] | Iterable[AttemptRow]) -> dict[str, int]:
    """How many jobs or attempts are in each state, states in their usual order."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in [*STATES, *(set(counts) - set(STATES))] if counts[state]}
