"""Putting good copies in the place of what is damaged in a server's tables, and making their indexes anew."""

from __future__ import annotations

from perdure.backends.base import CHUNK, Keep, number_of
from perdure.backends.server.connection import Cursor
from perdure.backends.server.tables import ServerTables
from perdure.errors import CorruptRecord, NewerFormat
from perdure.records.frame import parse_unverified
from perdure.records.queries import stored_key
from perdure.records.values import INTERNAL, Record

Classes = dict[tuple[str, bool], int]  # name, internal or not -> the number that stands for it


class Mending(ServerTables):
    """`mend` and `renew_indexes`."""

    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        self._refuse_write()
        number, spell = number_of(id_), self._schema.spell

        def work(cursor: Cursor) -> None:
            self._lock(cursor)
            class_ = _class_of(self._classes(cursor), parse_unverified(frame))
            for table in ("{records}", "{superseded}"):
                where = "WHERE number = %s AND revision = %s"
                cursor.execute(spell(f"SELECT frame FROM {table} {where}"), (number, revision))
                row = cursor.fetchone()
                if row is not None:
                    sql = f"UPDATE {table} SET frame = %s, class = %s, id = %s {where}"
                    keep(bytes(row[0] or b""))
                    cursor.execute(spell(sql), (frame, class_, id_, number, revision))
                    break
            else:
                self._insert(cursor, number, revision, (class_, id_, frame))
            cursor.execute("COMMIT")

        self._connection.read(work)

    def _insert(self, cursor: Cursor, number: int, revision: int, rest: tuple[int, str, bytes]) -> None:
        later = "SELECT revision FROM {%s} WHERE number = %%s AND revision > %%s"
        sql = f"{later % 'records'} UNION ALL {later % 'superseded'} ORDER BY 1 LIMIT 1"
        cursor.execute(self._schema.spell(sql), (number, revision, number, revision))
        row = cursor.fetchone()
        if row is None:
            sql = "INSERT INTO {records} (number, revision, class, id, frame) VALUES (%s, %s, %s, %s, %s)"
            cursor.execute(self._schema.spell(sql), (number, revision, *rest))
            return
        sql = "INSERT INTO {superseded} (number, revision, until, class, id, frame) VALUES (%s, %s, %s, %s, %s, %s)"
        cursor.execute(self._schema.spell(sql), (number, revision, row[0], *rest))

    def renew_indexes(self) -> None:
        self._refuse_write()
        spell = self._schema.spell

        def work(cursor: Cursor) -> None:
            self._lock(cursor)
            classes = self._classes(cursor)
            cursor.execute(spell("SELECT DISTINCT class, field FROM {fields}"))
            indexed = [(class_, bytes(field)) for class_, field in cursor.fetchall()]
            gone = "DELETE FROM {fields} WHERE number NOT IN (SELECT number FROM {records} WHERE class <> 0)"
            cursor.execute(spell(gone))
            after = -1
            sql = "SELECT number, class, frame FROM {records} WHERE class <> 0 AND number > %s ORDER BY number LIMIT %s"
            while True:
                cursor.execute(spell(sql), (after, CHUNK))
                rows = cursor.fetchall()
                for number, class_, frame in rows:
                    self._renew(cursor, (number, class_, bytes(frame or b"")), classes, indexed)
                if len(rows) < CHUNK:
                    break
                after = rows[-1][0]
            cursor.execute("COMMIT")

        self._connection.read(work)

    def _renew(
        self, cursor: Cursor, row: tuple[int, int, bytes], classes: Classes, indexed: list[tuple[int, bytes]]
    ) -> None:
        number, class_, frame = row
        try:
            record = parse_unverified(frame)
            right = _class_of(classes, record)
        except (CorruptRecord, NewerFormat):
            return  # what it is of, nobody knows
        if right != class_:
            cursor.execute(self._schema.spell("UPDATE {records} SET class = %s WHERE number = %s"), (right, number))
        if indexed:
            cursor.execute(self._schema.spell("DELETE FROM {fields} WHERE number = %s"), (number,))
        for of, field in indexed:
            if of == right and field.decode() in record.fields:
                sql = "INSERT INTO {fields} (number, field, class, value) VALUES (%s, %s, %s, %s)"
                values = (number, field, right, stored_key(record.fields, field.decode()))
                cursor.execute(self._schema.spell(sql), values)

    def _classes(self, cursor: Cursor) -> Classes:
        cursor.execute(self._schema.spell("SELECT number, name FROM {classes}"))
        return {(name, number < 0): number for number, name in cursor.fetchall()}


def _class_of(classes: Classes, record: Record) -> int:
    number = classes.get((record.class_name, bool(record.flags & INTERNAL)))
    if number is None:
        raise CorruptRecord(
            f"{record.id} is of the class {record.class_name}, which the store's table of classes has lost.",
            hint="Restore a backup into another place.",
            ids=(record.id,),
        )
    return number
