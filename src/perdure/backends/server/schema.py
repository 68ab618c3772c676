"""How a store lies in a database of a server: its tables, how they are made, and how they are recognised.

- All tables carry the store's name, so several stores live in one database: for `shop` they are `shop` (the newest
  version of every number that was ever given), `shop_superseded` (older versions), `shop_commits`, `shop_classes`,
  `shop_fields` (what queries ask for), `shop_buffers` and `shop_pieces` (large pieces, cut up), `shop_meta` and
  `shop_counter` (one row each).
- A removal is a version too, with class 0 and no frame: so the primary key alone refuses a number that was given.
- A class's number is negative for perdure's own records. A superseded version is what was there from `revision` up to,
  and without, `until`.
- The store is there if the row of `…_meta` is. PostgreSQL makes all tables in one transaction; elsewhere an attempt
  that was cut off leaves empty tables without that row, which the next one makes anew.
- Texts compare bytewise. Tables of another program are never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable, ExecutableDDLElement, SchemaItem
from sqlalchemy.types import TypeEngine

from perdure.backends.naming import checked_name
from perdure.errors import NewerFormat
from perdure.records.queries import LONGEST_TEXT

PLAIN_FORMAT, ENCRYPTED_FORMAT = 1, 2  # of stores, not of the records in them
FORMAT = ENCRYPTED_FORMAT  # the newest
DEFAULT_NAME = "perdure"
FIELD_LENGTH = 255  # bytes of a field's name that an index takes

_PARTS = ("records", "superseded", "commits", "classes", "fields", "buffers", "pieces", "meta", "counter")

_BYTES = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def _text(length: int | None = None) -> TypeEngine[str]:
    """A text that compares by its bytes."""
    options = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
    if length is None:
        return Text(collation="C").with_variant(mysql.LONGTEXT(**options), "mysql", "mariadb")
    return String(length, collation="C").with_variant(mysql.VARCHAR(length, **options), "mysql", "mariadb")


def _key(length: int) -> TypeEngine[bytes]:
    """Bytes that an index takes."""
    return LargeBinary().with_variant(mysql.VARBINARY(length), "mysql", "mariadb")


def name_of_tables(name: str | None) -> str:
    """The name of a store's tables, as it was given or the usual one; raises `UnknownScheme` if it cannot be one."""
    if name is None:
        return DEFAULT_NAME
    return checked_name(name)


class Schema:
    """The tables of the store `name`, as a dialect of SQLAlchemy's spells them."""

    def __init__(self, name: str, dialect: Dialect):
        names = {part: name if part == "records" else f"{name}_{part}" for part in _PARTS}
        quote = dialect.identifier_preparer.quote_identifier
        self._quoted = {part: quote(own) for part, own in names.items()}
        self.store = ""
        self._dialect = dialect
        self._tables = _tables(names).sorted_tables
        self.columns = {table.name: {column.name for column in table.columns} for table in self._tables}

    def spell(self, sql: str) -> str:
        """`sql` with the names of tables in place of `{records}`, `{meta}` and so on.

        `{is_own}` is the condition that the row of `meta` is that of the store which was recognised.
        """
        return sql.format_map(self._quoted)

    def recognise(self, store: str) -> None:
        """Note which store was found in the tables: another one that takes its place is not written to."""
        self.store = store
        self._quoted["is_own"] = f"store = '{store}'"

    def creating(self) -> list[str]:
        """The statements that make the tables."""
        elements: list[ExecutableDDLElement] = []
        for table in self._tables:
            elements += [CreateTable(table), *map(CreateIndex, table.indexes)]
        return [str(element.compile(dialect=self._dialect)) for element in elements]

    def dropping(self, names: Collection[str] | None = None) -> list[str]:
        """The statements that take away the tables with these names, or whichever are there."""
        chosen = self._tables if names is None else [table for table in self._tables if table.name in names]
        return [str(DropTable(table, if_exists=True).compile(dialect=self._dialect)) for table in chosen]

    def lacking(self, found: Iterable[tuple[str, str]]) -> list[str]:
        """What is not there of our tables and columns; `found` are pairs of table and column."""
        columns: dict[str, set[str]] = {}
        for table, column in found:
            columns.setdefault(table, set()).add(column)
        lacking = []
        for table, own in sorted(self.columns.items()):
            if table not in columns:
                lacking.append(f"table {table!r}")
            lacking += (f"column {name!r} of {table!r}" for name in sorted(own - columns.get(table, own)))
        return lacking

    def foreign(self, found: Iterable[tuple[str, str]]) -> list[str]:
        """The tables under our names that have other columns than ours; `found` are pairs of table and column."""
        columns: dict[str, set[str]] = {}
        for table, column in found:
            columns.setdefault(table, set()).add(column)
        return sorted(table for table, own in columns.items() if own != self.columns.get(table))


def _tables(names: Mapping[str, str]) -> MetaData:
    metadata = MetaData()
    options: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
    options |= {option.replace("mysql", "mariadb"): value for option, value in options.items()}

    def table(part: str, *items: SchemaItem) -> None:
        Table(names[part], metadata, *items, **options)

    def key(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]]) -> Column[Any]:
        return Column(name, kind, primary_key=True, autoincrement=False)

    def value(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]], *, nullable: bool = False) -> Column[Any]:
        return Column(name, kind, nullable=nullable)

    table(
        "records",
        key("number", BigInteger),
        value("revision", BigInteger),
        value("class", Integer),
        value("id", _text(255)),
        value("frame", _BYTES, nullable=True),
        Index(f"{names['records']}_by_class", "class", "number"),
    )
    table(
        "superseded",
        key("number", BigInteger),
        key("revision", BigInteger),
        value("until", BigInteger),
        value("class", Integer),
        value("id", _text(255)),
        value("frame", _BYTES),
        Index(f"{names['superseded']}_by_end", "until"),
    )
    table(
        "commits",
        key("revision", BigInteger),
        value("time", Double),
        value("note", _text()),
        value("code", _text()),
        value("numbers", _text()),
        value("token", _key(16)),
    )
    table("classes", key("number", Integer), value("name", _text()))
    table(
        "fields",
        key("number", BigInteger),
        key("field", _key(FIELD_LENGTH)),
        value("class", Integer),
        value("value", _key(LONGEST_TEXT + 1)),
        Index(f"{names['fields']}_by_value", "class", "field", "value", "number"),
    )
    table("buffers", key("digest", _text(128)), value("size", BigInteger))
    table("pieces", key("digest", _text(128)), key("part", Integer), value("length", Integer), value("content", _BYTES))
    table(
        "meta",
        key("one", SmallInteger),
        value("format", Integer),
        value("store", _text(32)),
        value("sealed_by", BigInteger),
        value("revision", BigInteger),
        value("oldest", BigInteger),
    )
    table("counter", key("one", SmallInteger), value("next_number", BigInteger))
    return metadata


def refuse_newer(format_: int, place: str) -> None:
    """Raise `NewerFormat` if the store's format is later than this release's."""
    if format_ > FORMAT:
        raise NewerFormat(
            f"The store {place} has format {format_}; this release of perdure reads up to {FORMAT}.",
            hint="Install a later release.",
        )
