"""Damage in a server's tables is named as such by every call that meets it, and told by `check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from served import Server
from servers import execute

from perdure import PerdureError, Persistable, Store, make_store
from perdure.errors import CorruptRecord, IdInUse, NotAStore, StorageError
from perdure.records.buffers import digest_of
from perdure.records.queries import Query
from perdure.testing.backend_drafts import commit, draft

NAMED = (CorruptRecord, StorageError, NotAStore)


class Job(Persistable):
    __indexed__ = ("state",)

    def __init__(self, state: str):
        self.state = state


@pytest.fixture
def stores(server: Server) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def open_store() -> Store:
        opened.append(make_store(f"{server.url}#table={server.name}", code="off"))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def change_type(server: Server, table: str, column: str, kind: str) -> None:
    how = f"ALTER COLUMN {column} TYPE {kind}" if server.kind == "postgresql" else f"MODIFY {column} {kind}"
    server.execute(f"ALTER TABLE {table} {how}")


def remove_table(server: Server, table: str) -> None:
    server.execute(f"DROP TABLE {table}")


def rename_column(server: Server, table: str, old: str) -> None:
    execute(server.kind, f"ALTER TABLE {table.replace('NAME', server.name)} RENAME COLUMN {old} TO other")


OPENING: dict[str, tuple[Callable[[Server], None], str]] = {
    "no counter": (lambda server: server.execute("DELETE FROM NAME_counter"), "counter"),
    "no row of meta": (lambda server: server.execute("DELETE FROM NAME_meta"), "lost the row"),
    "format a text": (lambda server: change_type(server, "NAME_meta", "format", "text"), "does not tell its format"),
    "store no id": (lambda server: server.execute("UPDATE NAME_meta SET store = 'x'' OR 1=1 --'"), "which store it is"),
    "no classes": (lambda server: remove_table(server, "NAME_classes"), "no table '.*_classes'"),
    "no pieces": (lambda server: remove_table(server, "NAME_pieces"), "no table '.*_pieces'"),
    "column renamed": (lambda server: rename_column(server, "NAME", "frame"), "no column 'frame' of"),
    "no token": (lambda server: rename_column(server, "NAME_commits", "token"), "no column 'token' of '.*_commits'"),
}


@pytest.mark.parametrize("what", OPENING)
def test_what_is_lacking_is_told_when_the_store_is_opened(
    server: Server, stores: Callable[[], Store], what: str
) -> None:
    stores().save(Job("new"))
    damage, said = OPENING[what]
    damage(server)
    with pytest.raises(NAMED, match=said) as caught:
        stores()
    assert caught.value.hint


CALLS: dict[str, Callable[[Store], object]] = {
    "load": lambda store: store.load("Job.1").state,
    "list": lambda store: store.list(),
    "find": lambda store: store.find(Job, state="new"),
    "history": lambda store: store.history("Job.1"),
    "transactions": lambda store: store.transactions(),
    "at": lambda store: store.at(1).load("Job.1"),
    "save": lambda store: store.save(Job("more")),
    "remove": lambda store: store.remove("Job.2"),
    "collect": lambda store: store.collect(dry_run=True),
    "pack": lambda store: store.pack(),
}

ROWS = {
    "frame NULL": ("UPDATE NAME SET frame = NULL WHERE number = 1", "Job.1"),
    "frame short": ("UPDATE NAME SET frame = 'x' WHERE number = 1", "Job.1"),
    "classes emptied": ("DELETE FROM NAME_classes", "one of no class"),
    "class of another": ("UPDATE NAME SET class = -1 WHERE number = 1", ""),
    "commits emptied": ("DELETE FROM NAME_commits", "commits"),
    "numbers no numbers": ("UPDATE NAME_commits SET numbers = 'x-y'", "damaged"),
    "counter set back": ("UPDATE NAME_counter SET next_number = 1", "counter stands at 1"),
}


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_cannot_be_are_told_by_every_call_and_by_check(
    server: Server, stores: Callable[[], Store], what: str
) -> None:
    store = stores()
    store.save_many([Job("new"), Job("old")])
    statement, said = ROWS[what]
    server.execute(statement)
    store = stores()
    problems = store.check()
    assert any(said in f"{problem.id} {problem.what}" for problem in problems), problems
    hints = [hint_of(call, store) for call in CALLS.values()]
    assert all(hint is None or hint for hint in hints), hints


def hint_of(call: Callable[[Store], object], store: Store) -> str | None:
    """What the call's error says to do; None if there is none. An error of Python's own comes through."""
    try:
        call(store)
    except PerdureError as error:
        return error.hint
    return None


def test_a_counter_that_was_set_back_is_not_blamed_on_a_factory_alone(
    server: Server, stores: Callable[[], Store]
) -> None:
    store = stores()
    store.save_many([Job("new"), Job("old")])
    store.close()
    server.execute("UPDATE NAME_counter SET next_number = 1")
    with pytest.raises(IdInUse, match="counter was set back"):
        stores().save(Job("more"))


def test_a_row_of_the_store_that_vanishes_is_damage(server: Server) -> None:
    backend = server.open()
    commit(backend, draft("Item.1"))
    server.execute("DELETE FROM NAME_meta")
    calls = (
        backend.revision,
        backend.describe,
        lambda: backend.changes(0),
        lambda: backend.pack(0),
        lambda: backend.reserve(1),
        lambda: backend.find(Query(("shop:Item",))),
        lambda: commit(backend, draft("Item.2"), seen=1),
    )
    for call in calls:
        with pytest.raises(CorruptRecord, match=r"store .* is damaged"):
            call()


@pytest.mark.parametrize("what", ["CREATE INDEX NAME_meta ON NAME_x (i)", "CREATE TYPE NAME_meta AS ENUM ('a')"])
def test_other_things_of_that_name_are_told(server: Server, what: str) -> None:
    if server.kind == "mysql":
        what = "CREATE VIEW NAME_meta AS SELECT * FROM NAME_x"  # there an index has its name in a table only
    server.execute("CREATE TABLE NAME_x (i int)", what)
    try:
        with pytest.raises(NotAStore) as caught:
            server.open()
        assert "Name another table" in caught.value.hint
    finally:
        server.execute("DROP TYPE IF EXISTS NAME_meta" if "TYPE" in what else "SELECT 1")
        server.execute("DROP VIEW IF EXISTS NAME_meta" if "VIEW" in what else "SELECT 1", "DROP TABLE NAME_x")


def test_no_memory_is_taken_for_what_the_tables_only_say(server: Server) -> None:
    backend = server.open()
    content = bytes(range(256)) * 1000
    digest = digest_of(content)
    commit(backend, draft("Job.1"), buffers={digest: content})
    for size in (-1, 1 << 21, 1 << 40, (1 << 63) - 1):
        server.execute(f"UPDATE NAME_buffers SET size = {size}")
        with pytest.raises(CorruptRecord, match="large piece"):
            backend.buffer(digest)
    for length in (-1, 1 << 21, (1 << 31) - 1):
        server.execute(f"UPDATE NAME_pieces SET length = {length}")
        with pytest.raises(CorruptRecord, match="large piece"):
            list(backend.buffer_parts(digest))
