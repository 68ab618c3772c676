"""What the backends on servers do besides the contract: with broken connections, locks, rights, other tables."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

import psycopg
import pymysql
import pytest
from served import CLASSES, Server, spy
from servers import drop_tables, engine_at, table_of, tables_like
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from perdure import make_store
from perdure.backends.server.backend import ServerBackend
from perdure.backends.server.connection import ServerConnection
from perdure.errors import (
    AccessDenied,
    CannotIndex,
    ConflictError,
    CorruptRecord,
    IdInUse,
    NewerFormat,
    NotAStore,
    OutcomeUnknown,
    StorageError,
    StoreBusy,
    StoreNotFound,
    TransactionError,
)
from perdure.records.queries import Condition, Query
from perdure.records.values import Batch, Draft
from perdure.testing.backend_drafts import ENCODE, commit, draft, in_threads, payloads

# -- making and finding the store ------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["NAME", "NAME_meta", "NAME_superseded"])
@pytest.mark.parametrize("read_only", [False, True])
def test_tables_of_another_program_are_left_alone(server: Server, table: str, read_only: bool) -> None:
    table = table.replace("NAME", server.name)
    server.execute(f"CREATE TABLE {table} (number int, format int)", f"INSERT INTO {table} VALUES (7, 7)")
    with pytest.raises(NotAStore, match=f"'{table}' of another layout"):
        server.open(read_only=read_only)
    assert server.query(f"SELECT * FROM {table}") == [(7, 7)]
    assert tables_like(server.kind, server.name) == [table]
    server.execute(f"DROP TABLE {table}")


def test_a_store_that_is_not_there_is_not_made(server: Server) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreNotFound, match="There is no store"):
            server.open(**options)
    assert tables_like(server.kind, server.name) == []


def test_two_stores_in_one_database_do_not_mix(server: Server, tmp_path) -> None:
    other = table_of(tmp_path / "other")
    try:
        first, second = server.open(), server.open(table=other)
        commit(first, draft("Item.1", b"first"))
        commit(second, draft("Item.1", b"second"), draft("Item.2"))
        assert payloads(first.read(["Item.1", "Item.2"])) == {"Item.1": b"first"}
        assert second.ids() == ["Item.1", "Item.2"]
        assert first.describe().store != second.describe().store
    finally:
        drop_tables(server.kind, {other})


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_making_a_store_that_was_cut_off_is_made_up_for(server: Server, kept: int) -> None:
    if server.kind == "postgresql":  # there all tables come in one transaction, so nothing can be half made
        backend = server.open()
        assert len(tables_like("postgresql", server.name)) == 9
        backend.close()
        server.execute("DELETE FROM NAME_meta")
        with pytest.raises(StorageError, match="lost the row"):
            server.open()
        return
    server.open().close()
    server.execute("DELETE FROM NAME_meta")
    with pytest.raises(StorageError, match="lost the row"):  # there is something in them yet
        server.open()
    server.execute("DELETE FROM NAME_counter")
    for table in tables_like(server.kind, server.name)[kept:]:
        server.execute(f"DROP TABLE {table}")
    backend = server.open()
    commit(backend, draft("Item.1"))
    assert backend.ids() == ["Item.1"]


def test_a_later_format_is_refused(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    server.execute("UPDATE NAME_meta SET format = 99")
    for call in (
        backend.describe,
        lambda: backend.reserve(1),
        lambda: commit(backend, draft("Item.2"), seen=1),
        lambda: commit(backend, draft("Item.2")),
        server.open,
        lambda: server.open(read_only=True),
    ):
        with pytest.raises(NewerFormat, match="format 99"):
            call()
    assert backend.ids() == ["Item.1"]


# -- rights ----------------------------------------------------------------------------------------------


@pytest.fixture
def reader(server: Server) -> Iterator[str]:
    """The URL of a user who may connect, and nothing else."""
    name = f"r{server.name[1:13]}"
    if server.kind == "postgresql":
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'geheim'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    else:
        server.execute(f"CREATE USER {name}@'%%' IDENTIFIED BY 'geheim'", f"GRANT SHOW VIEW ON *.* TO {name}@'%%'")
    url = make_url(server.url).set(username=name, password="geheim")
    yield url.render_as_string(hide_password=False)
    if server.kind == "postgresql":
        server.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    else:
        server.execute(f"DROP USER {name}@'%%'")


def allow(server: Server, url: str, rights: str) -> None:
    """Give the user rights on the store's tables."""
    for table in tables_like(server.kind, server.name):
        user = make_url(url).username
        server.execute(f"GRANT {rights} ON {table} TO {user}" + ("" if server.kind == "postgresql" else "@'%%'"))


def test_users_without_rights_are_told(server: Server, reader: str) -> None:
    with pytest.raises(AccessDenied, match=f"the store {server.name} refuses this user") as caught:
        server.open(url=reader)
    assert "geheim" not in str(caught.value)
    backend = server.open()
    commit(backend, draft("Item.1"))
    with pytest.raises(AccessDenied):
        server.open(url=reader)
    allow(server, reader, "SELECT")
    for read_only in (True, False):
        watcher = server.open(url=reader, read_only=read_only)
        assert watcher.ids() == ["Item.1"]
    for call in (
        lambda: watcher.reserve(1),
        lambda: commit(watcher, draft("Item.2"), seen=1),
        lambda: commit(watcher, draft("Item.2")),
        lambda: watcher.pack(1),
    ):
        with pytest.raises(AccessDenied):
            call()
    assert watcher.ids() == ["Item.1"]
    allow(server, reader, "INSERT, UPDATE, DELETE")
    commit(watcher, draft("Item.2"), seen=1)
    assert backend.ids() == ["Item.1", "Item.2"]


def test_the_right_to_make_tables_is_enough_to_make_a_store(server: Server, reader: str) -> None:
    user = make_url(reader).username
    if server.kind == "postgresql":
        server.execute(f"GRANT CREATE ON SCHEMA public TO {user}")
    else:
        database = server.query("SELECT database()")[0][0]
        server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX ON `{database}`.* TO {user}@'%%'")
    backend = server.open(url=reader)
    commit(backend, draft("Item.1"))
    commit(backend, draft("Item.1", base=1), removals={})
    assert backend.pack(2) == 1
    assert backend.ids() == ["Item.1"]


def test_a_wrong_password_is_denied_and_not_shown(server: Server) -> None:
    url = make_url(server.url).set(username="nobody", password="geheim").render_as_string(hide_password=False)
    with pytest.raises(AccessDenied) as caught:
        make_store(url)
    told: BaseException | None = caught.value
    while told is not None:
        assert "geheim" not in f"{told} {told!r} {told.args}"
        told = told.__cause__


def test_a_database_that_is_not_there(server: Server) -> None:
    url = make_url(server.url).set(database="no_such_database").render_as_string(hide_password=False)
    with pytest.raises(StoreNotFound, match="no_such_database"):
        server.open(url=url)


def test_a_server_that_is_not_there(server: Server) -> None:
    url = make_url(server.url).set(host="127.0.0.1", port=1, query={}).render_as_string(hide_password=False)
    with pytest.raises(StorageError, match="No server answers for the store"):
        server.open(url=url)


def test_reading_only_is_held_by_the_database(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    watcher = server.open(read_only=True)
    with pytest.raises(AccessDenied):
        watcher._connection.read(lambda cursor: cursor.execute(f"DELETE FROM {server.name}"))
    assert watcher.ids() == ["Item.1"]


# -- what stays open -------------------------------------------------------------------------------------


def test_no_call_leaves_a_transaction_open(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"), draft("Item.2", references=["Item.1"]))
    commit(backend, draft("Item.1", b"2", base=1), seen=1)
    with pytest.raises(ConflictError):
        commit(backend, draft("Item.1", b"3", base=1), seen=1)
    with pytest.raises(IdInUse):
        commit(backend, draft("Item.2"), seen=2)
    backend.reserve(1)
    backend.read(["Item.1", "Item.2"], at=1)
    backend.classes(["Item.1"], at=1)
    backend.find(Query(("shop:Item",)))
    scan = backend.scan()
    next(scan)
    backend.pack(1)
    backend.erase([])
    backend.drop_buffers([], 2)
    backend.changes(1), backend.commits(), backend.history("Item.1"), backend.referrers(["Item.1"])
    session = server.session_of(backend)
    assert server.transactions_of({session}) == set()
    for table in tables_like(server.kind, server.name):
        server.execute(f"DROP TABLE {table}")  # waits for nobody


def test_an_interrupted_commit_leaves_no_lock(server: Server, backend: ServerBackend) -> None:
    def interrupt(_: Draft, __: int) -> bytes:
        raise KeyboardInterrupt

    for seen in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            backend.apply(Batch([draft("Item.1")], seen=seen), interrupt)
        assert commit(server.open(timeout=1), draft(f"Item.{5 + seen}")).revision == 1 + seen
    assert backend.ids() == ["Item.5", "Item.6"]


def test_more_threads_than_connections(backend: ServerBackend) -> None:
    commit(backend, draft("Item.1", b"x"))

    def work() -> None:
        for _ in range(5):
            assert payloads(backend.read(["Item.1"])) == {"Item.1": b"x"}

    in_threads(work, 40)


# -- locks -----------------------------------------------------------------------------------------------


def test_who_waits_too_long_is_told_and_readers_do_not_wait(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    impatient = server.open(timeout=1)
    with server.locked("NAME_meta"):
        assert impatient.ids() == ["Item.1"]
        assert impatient.reserve(1) == 2  # numbers are another lock
        for seen in (0, 1):
            start = time.monotonic()
            with pytest.raises(StoreBusy, match="more than 1 seconds"):
                commit(impatient, draft("Item.9"), seen=seen)
            assert 0.5 < time.monotonic() - start < 4
    commit(impatient, draft("Item.9"), seen=1)
    assert backend.ids() == ["Item.1", "Item.9"]


def test_a_commit_waits_for_another(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    with server.locked("NAME_meta"):
        waiting = threading.Thread(target=commit, args=(backend, draft("Item.2")), kwargs={"seen": 1})
        waiting.start()
        time.sleep(0.3)
        assert backend.revision() == 1
    waiting.join()
    assert backend.revision() == 2


@pytest.mark.parametrize("seen", [0, 1])
def test_a_deadlock_is_repeated(server: Server, backend: ServerBackend, seen: int) -> None:
    commit(backend, draft("Item.1"))
    with engine_at(server.url).connect() as other:
        other.exec_driver_sql("BEGIN")
        other.exec_driver_sql(f"SELECT * FROM {server.name}_counter FOR UPDATE")
        waiting = threading.Thread(target=commit, args=(backend, draft("Item.2")), kwargs={"seen": seen})
        waiting.start()
        time.sleep(0.3)
        with suppress(DBAPIError):  # one of both loses: this one, or the commit
            other.exec_driver_sql(f"SELECT * FROM {server.name}_meta FOR UPDATE")
        other.exec_driver_sql("ROLLBACK")
        waiting.join()
    assert backend.ids() == ["Item.1", "Item.2"]
    assert backend.revision() == 2


# -- one round trip --------------------------------------------------------------------------------------


def test_a_commit_is_one_round_trip(backend: ServerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(backend, draft("Item.1"), draft("Item.2"), draft("Item.3"), indexed={"shop:Item": ("state",)})
    sent = spy(monkeypatch, backend)
    indexed = {"shop:Item": ("state",)}
    new = draft("Item.4", fields={"state": "new"}, references=["Item.1"])
    changed = draft("Item.2", base=1, fields={"state": "old"})
    commit(backend, new, changed, removals={"Item.3": 1}, needed=["Item.1"], seen=1, indexed=indexed)
    assert len(sent) == 1
    assert backend.ids() == ["Item.1", "Item.2", "Item.4"]
    assert backend.find(Query(("shop:Item",), (Condition("state", "==", "old"),))).ids == ["Item.2"]


def test_a_commit_that_was_not_alone_takes_the_long_way(backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"), draft("Item.2"))
    commit(backend, draft("Item.1", base=1), seen=1)
    assert commit(backend, draft("Item.2", b"2", base=1), draft("Item.3"), seen=1).revision == 3
    assert [version.revision for version in backend.history("Item.2")] == [3, 1]
    with pytest.raises(ConflictError) as caught:
        commit(backend, draft("Item.1", base=1), seen=1)
    assert caught.value.revisions == {"Item.1": (1, 2)}


def test_a_view_from_before_a_pack_does_not_take_an_old_revision_again(backend: ServerBackend) -> None:
    for number in range(1, 6):
        commit(backend, draft("Item.1", base=number - 1), seen=number - 1)
    backend.pack(5)
    assert [each.revision for each in backend.commits()] == [5]
    assert commit(backend, draft("Item.2"), seen=2).revision == 6


def test_large_commits_do_all_that_small_ones_do(backend: ServerBackend) -> None:
    indexed = {"shop:Item": ("n",)}
    many = 700
    commit(backend, *(draft(f"Item.{n}", b"%d" % n, fields={"n": n}) for n in range(1, many + 1)), indexed=indexed)
    changed = [draft(f"Item.{n}", b"new", base=1, fields={"n": -n}) for n in range(1, 401)]
    new = [draft(f"Item.{n}", b"x" * 5000, fields={"n": n}) for n in range(1001, 1401)]
    removals = {f"Item.{n}": 1 for n in range(401, 501)}
    commit(backend, *changed, *new, removals=removals, seen=1, indexed=indexed)
    assert len(backend.ids()) == many + 300
    assert len(backend.ids(at=1)) == many
    assert payloads(backend.read([f"Item.{n}" for n in range(1, 401)], at=1))["Item.7"] == b"7"
    assert payloads(backend.read(["Item.7", "Item.1400", "Item.450"])) == {"Item.7": b"new", "Item.1400": b"x" * 5000}
    query = Query(("shop:Item",), (Condition("n", "<", 0),), (("n", False),), limit=2)
    assert backend.find(query).ids == ["Item.400", "Item.399"]
    assert backend.count(query)[1] == 400
    with pytest.raises(ConflictError) as caught:
        commit(backend, *(draft(f"Item.{n}", base=1) for n in range(1, 701)), seen=1)
    assert len(caught.value.ids) == 500
    with pytest.raises(IdInUse):
        commit(backend, *(draft(f"Item.{n}") for n in range(1400, 1700)), seen=2)
    assert backend.describe()[3:5] == (2, 1401)


# -- texts and sizes -------------------------------------------------------------------------------------


def test_texts_compare_bytewise_and_survive(backend: ServerBackend) -> None:
    names = ["m:Pen", "m:pen", "m:Pen ", "m:Pén", "m:Pe\u0301n", "m:😀", "m:ß", "m:ss", "m:'\"\\%s{}"]
    commit(backend, *(draft(f"Item.{n}", class_name=name) for n, name in enumerate(names, 1)))
    assert backend.classes([f"Item.{n}" for n in range(1, 10)]) == {f"Item.{n}": m for n, m in enumerate(names, 1)}
    for number, name in enumerate(names, 1):
        assert backend.find(Query((name,))).ids == [f"Item.{number}"]
        assert len(list(backend.scan(class_name=name))) == 1
    note = "Größe 😀 '; DROP TABLE x; -- \\' %s {} \n\t\x7f"
    backend.apply(Batch([], time=0.1 + 0.2, note=note), ENCODE)
    assert (backend.commits(limit=1)[0].note, backend.commits(limit=1)[0].time) == (note, 0.1 + 0.2)


@pytest.mark.parametrize("text", ["nul \0", "half \ud800"])
@pytest.mark.parametrize("seen", [0, 1])
def test_what_no_database_keeps_is_named(backend: ServerBackend, text: str, seen: int) -> None:
    commit(backend, draft("Item.1"))
    with pytest.raises(StorageError, match=r"The note .* holds a character"):
        commit(backend, draft("Item.2"), seen=seen, note=text)
    assert commit(backend, draft("Item.2"), seen=seen).revision == 2


def test_what_cannot_be_indexed_is_named(backend: ServerBackend) -> None:
    for fields, name in (({"n": float("nan")}, "n"), ({"f" * 300: 1}, "f" * 300)):
        with pytest.raises(CannotIndex):
            commit(backend, draft("Item.1", fields=fields), indexed={"shop:Item": (name,)})
    assert backend.revision() == 0


def test_records_of_many_megabytes(server: Server, backend: ServerBackend) -> None:
    largest = 20_000_000 if server.kind == "postgresql" else 5_000_000
    contents = {f"Item.{n}": bytes([n]) * (largest // n) for n in range(1, 4)}
    commit(backend, *(draft(id_, content) for id_, content in contents.items()))
    assert payloads(backend.read(contents)) == contents


def test_a_record_larger_than_a_packet_is_named(server: Server, backend: ServerBackend) -> None:
    if server.kind == "postgresql":  # which takes up to a gigabyte
        return
    largest = server.query("SELECT @@max_allowed_packet")[0][0]
    with pytest.raises(StorageError, match="max_allowed_packet"):
        commit(backend, draft("Item.1", bytes(largest // 2)))
    assert backend.revision() == 0
    commit(backend, draft("Item.1"))


# -- broken connections ----------------------------------------------------------------------------------


def test_a_session_that_was_ended_is_replaced(server: Server, backend: ServerBackend) -> None:
    calls = [
        lambda: backend.read(["Item.1"]),
        lambda: backend.reserve(1),
        lambda: commit(backend, draft("Item.50", b"2", base=1), seen=1),
        lambda: commit(backend, draft("Item.51")),
        lambda: backend.pack(1),
        backend.ids,
    ]
    commit(backend, draft("Item.1"), draft("Item.50"))
    for call in calls:
        session = server.session_of(backend)
        server.end(session)
        call()
        assert server.session_of(backend) != session
    assert backend.revision() == 3
    assert [each.revision for each in backend.commits()] == [3, 2, 1]


def test_all_sessions_of_the_pool_are_ended_at_once(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    sessions: set[int] = set()

    def work() -> None:
        sessions.add(server.session_of(backend))
        time.sleep(0.05)

    in_threads(work, 4)
    for session in sessions:
        server.end(session)
    found: list[set[str]] = []
    in_threads(lambda: found.append(set(backend.read(["Item.1"]))), 4)
    assert found == [{"Item.1"}] * 4


def session_of(cursor: Any) -> int:
    connection = cursor.connection
    return int(connection.info.backend_pid if hasattr(connection, "info") else connection.thread_id())


def is_commit(text: str, seen: int) -> bool:
    """Whether that ends a commit: by itself (`seen`), or the transaction that it is in."""
    return text.endswith("COMMIT") or (seen > 0 and text.startswith("WITH m AS"))


def lost(cursor: Any) -> Exception:
    """The driver's error for an answer that never came."""
    if hasattr(cursor.connection, "info"):
        return psycopg.OperationalError("server closed the connection unexpectedly")
    return pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")


@pytest.mark.parametrize("seen", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_connection_breaks_is_done_once(
    server: Server, backend: ServerBackend, monkeypatch: pytest.MonkeyPatch, when: str, seen: int
) -> None:
    commit(backend, draft("Item.1"))
    broken: list[int] = []

    def break_before(cursor: Any, text: str) -> None:
        if when == "before" and is_commit(text, seen) and not broken:
            broken.append(session_of(cursor))
            server.end(broken[0])

    def break_after(cursor: Any, text: str) -> None:
        if when == "after" and is_commit(text, seen) and not broken:
            while cursor.nextset():
                pass
            broken.append(session_of(cursor))
            server.end(broken[0])
            raise lost(cursor)

    spy(monkeypatch, backend, break_before, break_after)
    receipt = commit(backend, draft("Item.2"), draft("Item.1", b"2", base=1), seen=seen)
    assert len(broken) == 1
    assert receipt.revision == backend.revision() == 2
    assert [each.revision for each in backend.commits()] == [2, 1]
    assert [each.revision for each in backend.history("Item.1")] == [2, 1]
    assert commit(backend, draft("Item.3"), seen=2).revision == 3


@pytest.mark.parametrize("seen", [0, 1])
def test_a_commit_that_the_server_is_still_at_is_waited_for(
    server: Server, backend: ServerBackend, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    commit(backend, draft("Item.1"))
    cursors: list[Any] = []
    spy(monkeypatch, backend, lambda cursor, _: cursors.append(cursor))
    receipts: list[int] = []
    waiting = threading.Thread(target=lambda: receipts.append(commit(backend, draft("Item.2"), seen=seen).revision))
    with server.locked("NAME_counter"):  # what a commit touches last
        waiting.start()
        while not any("next_number" in cursor.text for cursor in cursors):
            time.sleep(0.01)
        time.sleep(0.3)
        hang_up(cursors[-1])
        time.sleep(0.3)
        assert receipts == []
    waiting.join()
    assert receipts == [2]
    assert [each.revision for each in backend.commits()] == [2, 1]


@pytest.mark.parametrize("seen", [0, 1])
def test_an_outcome_that_nobody_can_tell(server: Server, monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    backend = server.open(timeout=0.5)
    commit(backend, draft("Item.1"))

    def break_after(cursor: Any, text: str) -> None:
        if is_commit(text, seen):
            monkeypatch.setattr(ServerConnection, "_check_out", unreachable)
            raise lost(cursor)

    def unreachable(connection: ServerConnection) -> Any:
        raise (
            psycopg.OperationalError("connection failed: Connection refused")
            if server.kind == "postgresql"
            else pymysql.err.OperationalError(2003, "Can't connect to MySQL server")
        )

    spy(monkeypatch, backend, after=break_after)
    with pytest.raises(OutcomeUnknown, match="nobody knows"):
        commit(backend, draft("Item.2"), seen=seen)
    monkeypatch.undo()
    for call in (lambda: commit(backend, draft("Item.3")), lambda: backend.reserve(1), lambda: backend.pack(1)):
        with pytest.raises(OutcomeUnknown):
            call()
    assert backend.revision() in (1, 2)
    assert commit(server.open(), draft("Item.3")).revision == backend.revision()


def test_a_commit_that_never_reached_the_server_is_a_plain_failure(
    server: Server, backend: ServerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(backend, draft("Item.1"))

    def break_before(cursor: Any, _: str) -> None:
        server.end(session_of(cursor))

    spy(monkeypatch, backend, break_before)
    with pytest.raises(StorageError, match="was lost") as caught:
        commit(backend, draft("Item.2"))
    assert not isinstance(caught.value, OutcomeUnknown)
    monkeypatch.undo()
    assert commit(backend, draft("Item.2")).revision == 2


def hang_up(cursor: Any) -> None:
    """Break the connection on this side, unseen by the server until it answers."""
    connection = cursor.connection
    if hasattr(connection, "info"):
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)
    else:
        connection._sock.shutdown(socket.SHUT_RDWR)


# -- damage ----------------------------------------------------------------------------------------------


def test_one_damaged_record_harms_no_other(server: Server, backend: ServerBackend) -> None:
    ids = [f"Item.{number}" for number in range(1, 11)]
    commit(backend, *(draft(id_, b"payload") for id_ in ids))
    frame = ENCODE(draft("Item.5", b"payload"), 1)
    for damaged in (frame[:16] + b"\xff" + frame[17:], frame[:28] + b"\xff" + frame[29:], frame[:10], b""):
        text = f"'\\x{damaged.hex()}'" if server.kind == "postgresql" else f"x'{damaged.hex()}'"
        server.execute(f"UPDATE NAME SET frame = {text} WHERE number = 5")
        rest = [id_ for id_ in ids if id_ != "Item.5"]
        assert set(backend.read(rest)) == set(backend.classes(rest)) == set(rest)
        for asked in (["Item.5"], ids):
            with pytest.raises(CorruptRecord):
                backend.read(asked)
    server.execute("DELETE FROM NAME_meta")
    with pytest.raises(CorruptRecord):
        backend.changes(0)


def test_tables_that_vanish_are_named(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    drop_tables(server.kind, {server.name})
    for call in (backend.revision, backend.ids, lambda: backend.reserve(1), lambda: commit(backend, draft("Item.2"))):
        with pytest.raises(StorageError, match="not what they were when it was opened"):
            call()


def test_a_large_piece_that_lost_a_part_is_damage(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"), buffers={"d" * 64: bytes(3_000_000)})
    assert backend.buffer("d" * 64) == bytes(3_000_000) == b"".join(backend.buffer_parts("d" * 64))
    server.execute("DELETE FROM NAME_pieces WHERE part = 1")
    with pytest.raises(CorruptRecord, match=r"dddd.* not whole"):
        backend.buffer("d" * 64)


def test_a_large_piece_that_changes_while_it_is_sent(server: Server, backend: ServerBackend) -> None:
    commit(backend, draft("Item.1"))
    with pytest.raises(TransactionError, match="was changed while"):
        commit(backend, draft("Item.2"), seen=1, buffers={"d" * 64: bytearray(3_000_000)})
    assert backend.buffers() == {}
    assert server.query("SELECT count(*) FROM NAME_pieces") == [(0,)]
    assert commit(backend, draft("Item.2"), seen=1).revision == 2


# -- forks -----------------------------------------------------------------------------------------------


def _fork_with_open_connections(kind: str, url: str, table: str) -> None:
    backend = CLASSES[kind](make_url(url), table, place=table)
    threads = [threading.Thread(target=backend.ids) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    commit(backend, draft("Item.1"))
    sql = "SELECT pg_backend_pid()" if kind == "postgresql" else "SELECT connection_id()"
    before = backend._rows(sql)[0][0]
    child = os.fork()
    if not child:
        code = 1
        try:
            own = backend._rows(sql)[0][0]
            commit(backend, draft("Item.2"), seen=1)
            backend.close()
            gc.collect()
            code = 0 if own != before else 2
        finally:
            os._exit(code) if code else sys.exit(0)  # an ordinary end, with all that Python then lets go of
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert backend._rows(sql)[0][0] == before  # neither used nor closed by the child
    assert backend.ids() == ["Item.1", "Item.2"]
    backend.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_the_parents_connections_alone(server: Server) -> None:
    server.open().close()
    process = get_context("spawn").Process(
        target=_fork_with_open_connections, args=(server.kind, server.url, server.name)
    )
    process.start()
    process.join()
    assert process.exitcode == 0


def test_numbers_that_are_asked_for_twice(backend: ServerBackend) -> None:
    for number in range(1, 9):
        commit(backend, draft(f"Item.{number}"), seen=number - 1)
    asked = [6, 8, 5, 5, 2, 3, 4]  # as many as from 2 to 8
    assert sorted(backend.commits_of(asked)) == sorted({*asked})
    assert backend.ids_of(asked, 8) == [f"Item.{number}" for number in sorted({*asked})]
