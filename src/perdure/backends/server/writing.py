"""How a batch becomes a commit on a database server, whichever it is.

- The row of `meta` is locked by every commit before it looks at anything that another could change; so commits stand
  in one line, and revisions are consecutive.
- A batch whose view is at the stored revision cannot conflict: it is sent at once, in one round trip, with the
  condition that the store is still the same, and at that revision. Where the condition fails nothing is done, and the
  long way is taken: lock, look, decide, write.
- Why this is right at READ COMMITTED: a statement's snapshot is taken before it waits for the lock, but the lock is
  granted on the newest row of `meta`. If that row tells the revision that the view saw, no commit came in between, and
  the snapshot, which is later than the view, shows just that revision. On the long way every later statement has a
  snapshot of its own, made after the lock. At REPEATABLE READ and above PostgreSQL would answer with a failure to
  serialise where another commit came in between; that is taken for "nothing was done, again".
- Each attempt carries a token, kept in its row of `commits`. When the connection is lost after a commit was sent, a
  new one takes the lock, and so waits for whatever the old one is still doing; then the token says whether it is done.
  If it is not, the batch is applied right there: thereby the old attempt can never come true later.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from perdure.backends.base import (
    CHUNK,
    mismatches,
    number_of,
    number_taken,
    numbers_of,
    refuse_absent,
    refuse_conflicts,
    refuse_referred,
    runs_of,
)
from perdure.backends.damage import UNREADABLE, damaged, expect
from perdure.backends.server.columns import ServerColumns
from perdure.backends.server.connection import Cursor
from perdure.backends.server.errors import replaced
from perdure.backends.server.schema import FIELD_LENGTH, Schema, refuse_newer
from perdure.backends.server.uploading import Uploads
from perdure.errors import CannotIndex, IdInUse, StorageError
from perdure.records.frame import Encoder
from perdure.records.queries import sort_key
from perdure.records.values import INTERNAL, Batch, Draft, Past

ClassNumbers = dict[tuple[str, int], int]  # (class name, INTERNAL or 0) -> its number in `classes`
Row = tuple[int, int, str, bytes]  # number, class, id, frame
Rows = Sequence[Any]  # of tuples, as a driver gives them
IndexRow = tuple[int, bytes, int, bytes]  # number, field, class, value


class Plan:
    """What a batch does to the tables.

    `sent`: this attempt's commit may have reached the server. `in_doubt`: so may have an earlier one's, whose answer
    never came.
    """

    def __init__(self, batch: Batch, encode: Encoder):
        self.batch = batch
        self.encode = encode
        self.token = uuid.uuid4().bytes
        self.sent = False
        self.in_doubt = False
        numbers = [int(draft[0].rpartition(".")[2]) for draft in batch.drafts]
        _refuse_twice(batch.drafts, numbers)
        pairs = list(zip(numbers, batch.drafts, strict=True))
        self.new = [pair for pair in pairs if not pair[1].base]
        self.replaced = [pair for pair in pairs if pair[1].base] if len(self.new) < len(pairs) else []
        self.removed = [number_of(id_) for id_ in batch.removals]
        self.gone = [number for number, _ in self.replaced] + self.removed
        self.written = numbers + self.removed
        self.runs = runs_of(self.written)
        self.above = max(self.written, default=0) + 1
        self.needed = sorted(set(batch.needed).difference(draft.id for draft in batch.drafts)) if batch.needed else []
        self.amending: list[str] = []  # statements before the end of the transaction
        self.kinds = {(draft.class_name, draft.flags & INTERNAL) for draft in batch.drafts}

    def rows(self, pairs: Iterable[tuple[int, Draft]], revision: int, known: ClassNumbers) -> Iterator[Row]:
        """The rows of `records` for these drafts."""
        encode = self.encode
        for number, draft in pairs:
            yield number, known[draft[3], draft[2] & INTERNAL], draft[0], encode(draft, revision)

    def index_rows(self, known: ClassNumbers) -> list[IndexRow]:
        """The rows of `fields`. Raises `CannotIndex`."""
        indexed = self.batch.indexed
        if not indexed:
            return []
        names = {field: _field_name(field) for fields in indexed.values() for field in fields}
        return [
            (number, names[field], known[draft.class_name, draft.flags & INTERNAL], _value(draft, field))
            for number, draft in (*self.new, *self.replaced)
            for field in indexed.get(draft.class_name, ())
            if field in draft.fields
        ]

    @property
    def looked_up(self) -> list[int]:
        """The numbers of all ids whose present state decides whether the batch may be applied."""
        batch = self.batch
        return sorted({*self.written, *map(number_of, (*batch.checks, *batch.needed))})


class Locked(NamedTuple):
    """What the store is like while its lock is held."""

    format: int
    revision: int
    store: str
    rows: dict[int, tuple[int, int, str]]  # number -> (revision, class, id)
    done: int | None  # the revision of an earlier attempt of the same batch

    @classmethod
    def of(cls, meta: Rows, done: Rows, rows: Rows) -> Locked:
        """From rows of (format, revision, store), of (revision), and of (number, revision, class, id)."""
        format_, revision, store = expect(int, meta[0][0]), expect(int, meta[0][1]), expect(str, meta[0][2])
        found = {number: (base, class_, id_) for number, base, class_, id_ in rows}
        return cls(format_, revision, store, found, done[0][0] if done else None)


class Writer(Uploads):
    """The statements of a commit, for one store on one kind of server."""

    def __init__(self, schema: Schema, place: str):
        super().__init__(schema)
        self.place = place
        self.classes: ClassNumbers = {}  # of committed classes only
        self.columns: ServerColumns | None = None  # that other programs read

    def commit(self, cursor: Cursor, plan: Plan) -> int:
        """Apply the batch, and give its revision; or raise, with a transaction open or not."""
        batch = plan.batch
        is_plain = batch.seen and not (self.columns or plan.in_doubt or batch.buffers or batch.keep is not None)
        if is_plain and plan.kinds <= self.classes.keys() and self.fits(plan):
            revision = self.at_once(cursor, plan)
            if revision:
                return revision
            plan.sent = False  # it came back, without having done anything
        locked = self._locked(cursor, plan)
        if locked.store != self.schema.store:
            raise replaced(self.place)
        if locked.done:
            cursor.execute("ROLLBACK")
            return locked.done
        plan.in_doubt = False  # what the earlier attempt's session did, ended before the lock was ours
        refuse_newer(locked.format, self.place)
        _refuse(plan, locked)
        if batch.unreferred and locked.revision != batch.seen:
            refuse_referred(batch, self.later(cursor, batch.seen))
        known = dict(self.classes)
        new_classes = self._name_classes(cursor, plan, known)
        revision = locked.revision + 1
        self.write(cursor, plan, revision, known, new_classes)
        self.classes = known  # only now: a commit that failed took its new classes back
        return revision

    def replay(self, cursor: Cursor, plan: Plan, past: Past) -> None:
        """Write a revision of another store after a gap, or one of which not everything is kept."""
        locked = self._locked(cursor, plan)
        if locked.revision >= past.revision:  # done by an attempt whose answer never came
            cursor.execute("ROLLBACK")
            return
        cursor.execute(self.schema.spell(f"UPDATE {{meta}} SET revision = {past.revision - 1} WHERE {{is_own}}"))
        for id_ in past.removed:
            number = number_of(id_)
            if number not in locked.rows:
                sql = "INSERT INTO {records} (number, revision, class, id, frame) VALUES (%s, %s, 0, %s, NULL)"
                cursor.execute(self.schema.spell(sql), (number, past.revision, id_))
                plan.removed.remove(number)
                plan.gone.remove(number)
        runs = "" if past.commit is None else runs_of(past.commit.numbers)
        amended = "DELETE FROM {commits}" if past.commit is None else f"UPDATE {{commits}} SET numbers = '{runs}'"
        plan.amending = [self.schema.spell(f"{amended} WHERE revision = {past.revision}")]
        known = dict(self.classes)
        new_classes = self._name_classes(cursor, plan, known)
        self.write(cursor, plan, past.revision, known, new_classes)
        self.classes = known

    def later(self, cursor: Cursor, seen: int, *, table: str = "{records}") -> Iterator[bytes]:
        """The frames in that table which were written after revision `seen`; the lock is held."""
        among = [""]
        cursor.execute(self.schema.spell("SELECT oldest FROM {meta}"))
        if seen >= cursor.fetchone()[0]:  # else not every commit since then is kept
            cursor.execute(self.schema.spell(f"SELECT numbers FROM {{commits}} WHERE revision > {seen}"))
            numbers = sorted({number for (text,) in cursor.fetchall() for number in numbers_of(text)})
            chunks = (numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK))
            among = [f"number IN ({', '.join(map(str, chunk))}) AND " for chunk in chunks]
        for numbered in among:
            sql = f"SELECT frame FROM {table} WHERE {numbered}revision > {seen} AND class <> 0"
            cursor.execute(self.schema.spell(sql))
            yield from (bytes(frame) for (frame,) in cursor.fetchall())

    def _locked(self, cursor: Cursor, plan: Plan) -> Locked:
        try:
            return self.lock(cursor, plan)
        except UNREADABLE as error:
            raise damaged(self.place, error) from error

    @abstractmethod
    def fits(self, plan: Plan) -> bool:
        """Whether the batch is small enough to be sent at once."""

    @abstractmethod
    def at_once(self, cursor: Cursor, plan: Plan) -> int | None:
        """Apply the batch to the revision that it saw, in one round trip; None, and nothing is done, if it is gone."""

    @abstractmethod
    def lock(self, cursor: Cursor, plan: Plan) -> Locked:
        """Begin a transaction and lock the store; upload large pieces first, since that takes long."""

    @abstractmethod
    def write(
        self, cursor: Cursor, plan: Plan, revision: int, known: ClassNumbers, new_classes: list[tuple[int, str]]
    ) -> None:
        """Write the batch as that revision, and commit. The lock is held."""

    def trimming(self, plan: Plan) -> list[str]:
        """The last statements: those that forget what `batch.keep` does not keep, or that amend the commit."""
        if plan.batch.keep is None:
            return plan.amending
        # The commit before the first that is younger; its own is one of those.
        past = (
            "(SELECT coalesce(min(revision), 1) - 1 FROM {commits}"
            f" WHERE time >= {plan.batch.time - plan.batch.keep!r} AND revision >= oldest)"
        )
        statements = (
            f"UPDATE {{meta}} SET oldest = greatest(oldest, {past})",
            "DELETE FROM {superseded} WHERE until <= (SELECT oldest FROM {meta})",
            "DELETE FROM {commits} WHERE revision < (SELECT oldest FROM {meta})",
        )
        return [self.schema.spell(each) for each in statements]

    def _name_classes(self, cursor: Cursor, plan: Plan, known: ClassNumbers) -> list[tuple[int, str]]:
        """Put the number of each class of the batch into `known`; gives those that are new to the store."""
        if plan.kinds <= known.keys():
            return []
        cursor.execute(self.schema.spell("SELECT number, name FROM {classes}"))
        numbers = {0}
        for number, name in cursor.fetchall():
            numbers.add(number)
            known[name, INTERNAL if number < 0 else 0] = number
        new: list[tuple[int, str]] = []
        for name, internal in sorted(plan.kinds.difference(known)):
            number = min(numbers) - 1 if internal else max(numbers) + 1
            numbers.add(number)
            known[name, internal] = number
            new.append((number, name))
        return new


def _refuse(plan: Plan, locked: Locked) -> None:
    """Raise what stands against the batch, as the reference in memory does."""
    batch, rows = plan.batch, locked.rows
    for number, draft in plan.new:
        if number in rows:
            raise number_taken(draft.id, number)
    expected = {draft.id: draft.base for _, draft in plan.replaced}
    expected.update(batch.removals)
    expected.update(batch.checks)
    present = {id_: revision for revision, class_, id_ in rows.values() if class_}
    back = {draft.id for n, draft in plan.replaced if n in rows and rows[n] == (draft.base, 0, draft.id)}
    refuse_conflicts(mismatches(expected, {**present, **{id_: expected[id_] for id_ in back}}))
    refuse_absent(batch, present.keys())


def _refuse_twice(drafts: list[Draft], numbers: list[int]) -> None:
    """Raise `IdInUse` if two drafts have the same number."""
    if len(set(numbers)) == len(numbers):
        return
    seen: dict[int, str] = {}
    for number, draft in zip(numbers, drafts, strict=True):
        if number in seen:
            raise IdInUse(
                f"{draft.id} cannot be new: {seen[number]} of the same commit has its number.",
                hint="The factory of ids must never give a number twice.",
                ids=(draft.id, seen[number]),
            )
        seen[number] = draft.id


def _field_name(field: str) -> bytes:
    name = field.encode()
    if len(name) > FIELD_LENGTH:
        raise CannotIndex(f"The field {field!r:.60} has a name of more than {FIELD_LENGTH} bytes.")
    return name


def _value(draft: Draft, field: str) -> bytes:
    try:
        return sort_key(draft.fields[field])
    except ValueError as error:
        raise CannotIndex(f"{draft.id}.{field} cannot be indexed: {error}.", ids=(draft.id,)) from error


def plain_text(text: str, what: str, place: str) -> str:
    """The text, if a database can hold it; raises `StorageError` for half of a surrogate pair, or a NUL character."""
    try:
        sound = "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise StorageError(
            f"The {what} {text!r:.80} holds a character that {place} cannot keep.", hint="Take it out of the text."
        )
    return text
