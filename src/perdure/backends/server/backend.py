"""The backend on a database server: what is the same on PostgreSQL, MySQL and MariaDB.

- A read is one statement in autocommit mode, or several whose order makes them right: first what is there now, then
  what was superseded, then whether that revision is still kept.
- Rows are found by number; then the id inside the frame must be the one that was asked for.
- A commit is described in `server/writing`; each server spells its own.
- A commit whose connection was lost is looked for, and repeated if it is not there, as long as the time-out allows; if
  no answer can be had, `OutcomeUnknown`, from then on for every write.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from perdure.backends.base import CHUNK, FEW, SMALL, number_of, numbers_of, too_old
from perdure.backends.damage import expect, reads, reads_each
from perdure.backends.frames import by_id
from perdure.backends.server.errors import Trouble, outcome_unknown, replaced
from perdure.backends.server.finding import count_statement, find_statement, in_order, lacking_statement
from perdure.backends.server.forgetting import Forgetting
from perdure.backends.server.mending import Mending
from perdure.backends.server.pieces import Pieces
from perdure.backends.server.replaying import Replaying
from perdure.backends.server.schema import ENCRYPTED_FORMAT, refuse_newer
from perdure.backends.server.writing import Plan
from perdure.errors import CorruptRecord, PerdureError
from perdure.records.frame import Encoder, parse_unverified
from perdure.records.queries import Found, Query
from perdure.records.values import Batch, Commit, Description, Receipt, Version

_LAST = 2**63 - 1  # above every revision and every number


class ServerBackend(Forgetting, Mending, Pieces, Replaying):
    """A store on a database server; see `ServerTables` for the arguments."""

    # -- reading -----------------------------------------------------------------------------------------

    @reads
    def describe(self) -> Description:
        rows = self._rows(
            "SELECT m.format, m.store, m.sealed_by, m.revision, c.next_number, m.oldest"
            " FROM {meta} m LEFT JOIN {counter} c ON c.one = m.one"
        )
        if len(rows) != 1:
            raise self._damaged(f"it has {len(rows)} rows that tell its revision")
        ((format_, *rest),) = rows
        if rest[0] != self._schema.store:
            raise replaced(self.place)
        refuse_newer(format_, self.place)
        if not all(isinstance(each, int) for each in (format_, *rest[1:])):
            raise self._damaged("it does not tell its key, its revisions, or its counter")
        return Description(format_, *rest)._replace(encrypted=format_ == ENCRYPTED_FORMAT)

    @reads
    def revision(self) -> int:
        rows = self._rows("SELECT revision FROM {meta} WHERE {is_own}")
        if not rows:
            raise self._connection.read(self._row_gone)
        return expect(int, rows[0][0])

    @reads
    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        asked = list(ids)
        wanted = set(asked)
        until = _LAST if at is None else at
        found = by_id(self._select("SELECT frame FROM {records}", asked, "revision <= %s AND frame IS NOT NULL", until))
        if found.keys() == wanted:
            return found
        for id_ in found.keys() - wanted:
            del found[id_]
        if len(found) < len(wanted) and at is not None:
            found.update(self._superseded(wanted.difference(found), at))
        if len(found) < len(wanted):
            self._refuse_damaged(wanted.difference(found))
        return found

    @reads
    def read_run(self, first: int, end: int, at: int) -> dict[str, bytes]:
        # One round trip for all of them: that is what a single read takes the longest for.
        sql = "SELECT frame FROM {records} WHERE number >= %s AND number < %s AND revision <= %s"
        return by_id(self._rows(f"{sql} AND octet_length(frame) < %s", (first, end, at, SMALL)))  # nor NULL

    @reads
    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        asked = list(ids)
        wanted = set(asked)
        until = _LAST if at is None else at
        joined = "SELECT id, name FROM {%s} r JOIN {classes} c ON c.number = r.class"
        rows = self._select(joined % "records", asked, "r.revision <= %s", until, column="r.number")
        found = {id_: name for id_, name in rows if id_ in wanted}
        missing = wanted.difference(found)
        if missing and at is not None:
            condition = "r.revision <= %s AND until > %s"
            rows = self._select(joined % "superseded", missing, condition, at, at, column="r.number")
            self._refuse_too_old(at)
            found.update((id_, name) for id_, name in rows if id_ in missing)
        return found

    @reads
    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        sign = "<" if internal else ">"
        if at is None:
            return [id_ for (id_,) in self._rows(f"SELECT id FROM {{records}} WHERE class {sign} 0 ORDER BY number")]
        rows = self._rows(
            f"SELECT number, id FROM {{records}} WHERE revision <= %s AND class {sign} 0 UNION ALL"
            f" SELECT number, id FROM {{superseded}} WHERE revision <= %s AND until > %s AND class {sign} 0"
            " ORDER BY 1",
            (at, at, at),
        )
        self._refuse_too_old(at)
        return [id_ for _, id_ in rows]

    @reads
    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        among, values = self._among("number", sorted(numbers))
        rows = self._rows(
            f"SELECT number, id FROM {{records}} WHERE {among} AND revision <= %s AND class <> 0 UNION ALL"
            f" SELECT number, id FROM {{superseded}} WHERE {among} AND revision <= %s AND until > %s AND class <> 0"
            " ORDER BY 1",
            (*values, at, *values, at, at),
        )
        self._refuse_too_old(at)
        return [id_ for _, id_ in rows]

    @reads
    def class_names(self) -> list[str]:
        return list(dict.fromkeys(name for (name,) in self._rows("SELECT name FROM {classes}")))

    @reads_each
    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        if at is not None:
            yield from self.scan_at(at, class_name, internal, after)
            return
        if class_name is None:
            condition = {None: "<> 0", False: "> 0", True: "< 0"}[internal]
        else:
            numbers = [n for n in self._class_numbers((class_name,)) if internal is None or internal == (n < 0)]
            condition = f"= {numbers[0]}" if len(numbers) == 1 else f"IN ({', '.join(map(str, numbers)) or 'NULL'})"
        if condition.startswith(("=", "<>", ">")):  # the order of an index, which leaves out few or none
            yield from self._scan(f"class {condition}", (), after)
            return
        sql = f"SELECT number FROM {{records}} WHERE class {condition} AND number > %s ORDER BY number"
        all_numbers = [number for (number,) in self._rows(sql, (after,))]
        for start in range(0, len(all_numbers), CHUNK):
            among, values = self._among("number", all_numbers[start : start + CHUNK])
            sql = f"SELECT frame FROM {{records}} WHERE {among} AND class <> 0 ORDER BY number"
            yield from (expect(bytes, frame) for (frame,) in self._rows(sql, values))

    @reads
    def changes(self, since: int) -> tuple[int, set[int]]:
        rows = self._rows(
            "SELECT revision, oldest, NULL FROM {meta} WHERE {is_own}"
            " UNION ALL SELECT revision, 0, numbers FROM {commits} WHERE revision > %s",
            (since,),
        )
        newest = next((row for row in rows if row[2] is None), None)
        if newest is None:
            raise self._connection.read(self._row_gone)
        if since < newest[1]:
            raise too_old(since, newest[1])
        return expect(int, newest[0]), {number for *_, text in rows if text is not None for number in numbers_of(text)}

    @reads
    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        among, values = self._among("revision", sorted(revisions))
        rows = self._rows(f"SELECT revision, time, note, code, numbers FROM {{commits}} WHERE {among}", values)
        return {each.revision: each for each in map(_commit, rows)}

    @reads
    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        rows = self._rows(
            "SELECT revision, time, note, code, numbers FROM {commits} WHERE revision < %s"
            " ORDER BY revision DESC LIMIT %s",
            (_LAST if before is None else before, _LAST if limit is None else limit),
        )
        return [_commit(row) for row in rows]

    @reads
    def history(self, id_: str) -> list[Version]:
        number = number_of(id_)
        rows = self._rows(
            "SELECT revision, frame, id FROM {records} WHERE number = %s"
            " UNION ALL SELECT revision, frame, id FROM {superseded} WHERE number = %s ORDER BY 1 DESC",
            (number, number),
        )
        return [Version(revision, frame or None) for revision, frame, own in rows if own == id_]

    @reads
    def referrers(self, ids: Collection[str]) -> dict[str, list[str]]:
        wanted = set(ids)
        if len(wanted) > FEW:
            return super().referrers(wanted)
        if not wanted:
            self._connection.refuse_closed()
            return {}
        # The server searches the bytes; what it finds may also be a longer id or a text, and is looked at.
        condition = " OR ".join(["position(%s in frame) > 0"] * len(wanted))
        found: dict[str, list[str]] = {}
        for frame in self._scan(f"class <> 0 AND ({condition})", tuple(id_.encode() for id_ in wanted), -1):
            record = parse_unverified(frame)
            for target in wanted.intersection(record.references) - {record.id}:
                found.setdefault(target, []).append(record.id)
        return found

    # -- queries -----------------------------------------------------------------------------------------

    @reads
    def find(self, query: Query) -> Found:
        if query.is_wide:
            return super().find(query)
        rows = self._rows(*find_statement(query, self._class_numbers(query.classes)))
        return Found(rows[0][0], [id_ for _, id_ in rows if id_ is not None])

    @reads
    def count(self, query: Query) -> tuple[int, int]:
        if query.is_wide:
            return super().count(query)
        ((revision, count),) = self._rows(*count_statement(query, self._class_numbers(query.classes)))
        return revision, count

    @reads
    def indexes(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        rows = self._rows(
            "SELECT DISTINCT c.name, f.field FROM {fields} f JOIN {classes} c ON c.number = f.class ORDER BY 1, 2"
        )
        for name, field in rows:
            found.setdefault(name, []).append(bytes(field).decode())
        return found

    @reads
    def lacking(self, query: Query) -> list[str]:
        rows = self._rows(*lacking_statement(query, self._class_numbers(query.classes)))
        return in_order([id_ for (id_,) in rows])

    # -- writing -----------------------------------------------------------------------------------------

    def reserve(self, count: int, *, durable: bool = True) -> int:
        self._refuse_write()
        # Repeated if the connection breaks: then some numbers may be nobody's, which harms nobody.
        first = self._connection.read(lambda cursor: self._take_numbers(cursor, count, durable))
        if first is None:
            refuse_newer(self.describe().format, self.place)
            raise self._damaged("its counter is gone")
        return first

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        self._refuse_write()
        plan = Plan(batch, encode)
        deadline = 0.0
        while True:
            try:
                return Receipt(self._connection.once(lambda cursor: self._writer.commit(cursor, plan)))
            except self._connection.errors as error:
                now = time.monotonic()
                is_first = not deadline
                deadline = deadline or now + self._timeout
                if not self._may_repeat(error, plan, first=is_first) or now > deadline:
                    raise self._final(plan, self._connection.told(error)) from error
            except PerdureError as error:
                final = self._final(plan, error)
                raise final from (None if final is error else error)
            time.sleep(0 if is_first else random.uniform(0.01, 0.5))

    def _may_repeat(self, error: Exception, plan: Plan, *, first: bool) -> bool:
        """Whether another attempt may go better. After any answer of the server's, this one has done nothing."""
        trouble = self._connection.trouble_of(error)
        plan.in_doubt = plan.in_doubt or (plan.sent and trouble is Trouble.LOST)
        plan.sent = False
        if trouble is Trouble.LOST:
            self._connection.renew()
        return trouble is Trouble.AGAIN or plan.in_doubt or (trouble is Trouble.LOST and first)

    def _final(self, plan: Plan, error: PerdureError) -> PerdureError:
        """The error to raise where no further attempt is made."""
        if not plan.in_doubt:
            return error
        self._outcome_unknown = True
        return outcome_unknown(self.place)

    # -- parts -------------------------------------------------------------------------------------------

    def _superseded(self, ids: Collection[str], at: int) -> dict[str, bytes]:
        """The frames of objects that were replaced or removed after revision `at`."""
        condition = "revision <= %s AND until > %s AND class <> 0"
        found = by_id(self._select("SELECT frame FROM {superseded}", ids, condition, at, at))
        self._refuse_too_old(at)
        return {id_: found[id_] for id_ in ids if id_ in found}

    def _refuse_too_old(self, at: int) -> None:
        """Asked after reading: what was read may have been taken away meanwhile."""
        ((oldest,),) = self._rows("SELECT oldest FROM {meta}")
        if at < expect(int, oldest):
            raise too_old(at, oldest)

    def _refuse_damaged(self, ids: Collection[str]) -> None:
        """Raise `CorruptRecord` if one of those ids was not found because its own frame is damaged."""
        for id_, frame in self._select("SELECT id, frame FROM {records}", ids, "class <> 0"):
            if frame is None:
                raise CorruptRecord(f"{id_} has lost its record.", hint="Go back to a backup.", ids=(id_,))
            parse_unverified(frame)

    def _scan(self, condition: str, values: tuple[object, ...], after: int) -> Iterator[bytes]:
        sql = f"SELECT number, frame FROM {{records}} WHERE {condition} AND number > %s ORDER BY number LIMIT {CHUNK}"
        while True:
            rows = self._rows(sql, (*values, after))
            for _, frame in rows:
                yield expect(bytes, frame)
            if len(rows) < CHUNK:
                return
            after = rows[-1][0]

    def _class_numbers(self, names: Collection[str]) -> list[int]:
        """The numbers that stand for these classes; compared here, since not every server heeds a blank at the end."""
        return [number for number, name in self._rows("SELECT number, name FROM {classes}") if name in names]


def _commit(row: Sequence[Any]) -> Commit:
    revision, time_, note, code, numbers = row
    told = expect(int, revision), expect(float, time_), expect(str, note), expect(str, code)
    return Commit(*told, tuple(numbers_of(numbers)))
