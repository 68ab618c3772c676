"""The watch over a SQLite database: no commit of anybody's goes unseen, and asking harms nobody's locks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from ways import needs_kernels, ways

import perdure
from perdure import Persistable, StoreClosed, make_store
from perdure.backends.sqlite import watch as sqlite_watch
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.records.frame import encoder
from perdure.records.seal import Key
from perdure.records.values import Batch, Draft

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing is watched")

COMMIT = "import sys, perdure\nwith perdure.make_store(sys.argv[1]) as store: store.roots['n'] = int(sys.argv[2])"


class Counter(Persistable):
    def __init__(self, value=0):
        self.value = value


@pytest.fixture
def url(tmp_path):
    return f"sqlite:////{(tmp_path / 'watched.db').as_posix().lstrip('/')}"


def test_every_commit_of_another_process_is_seen(url):
    with make_store(url) as store:
        store.roots["n"] = 0
        watch = store.backend.watch()
        for number in range(1, 6):
            before = watch()
            assert watch() == before
            subprocess.run([sys.executable, "-c", COMMIT, url, str(number)], check=True)
            assert watch() != before
            assert store.roots["n"] == number


def test_a_thousand_commits_of_another_store_are_each_seen_by_a_warm_load(url):
    with make_store(url) as writer, make_store(url) as reader:
        counter = Counter()
        id_ = writer.save(counter)
        held = reader.load(id_)
        for number in range(1, 1000):
            counter.value = number
            writer.save(counter)
            assert reader.load(id_).value == number
        assert reader.load(id_) is held


def test_checkpoints_of_whatever_kind_lose_nothing(url, tmp_path):
    with make_store(url) as writer, make_store(url) as reader:
        counter = Counter()
        id_ = writer.save(counter)
        for number, mode in enumerate(("PASSIVE", "FULL", "RESTART", "TRUNCATE") * 3):
            counter.value = number
            writer.save(counter)
            other = sqlite3.connect(tmp_path / "watched.db")
            other.execute(f"PRAGMA wal_checkpoint({mode})")
            assert reader.load(id_).value == number
            counter.value = -number
            writer.save(counter)
            assert reader.load(id_).value == -number
            other.close()


def test_after_closing_nothing_is_taken_for_current(url):
    store = make_store(url)
    id_ = store.save(Counter())
    watch = store.backend.watch()
    assert watch() == watch()
    store.close()
    assert watch() != watch()
    with pytest.raises(StoreClosed):
        store.load(id_)


def test_maps_are_let_go_with_the_last_connection_and_not_before(url):
    before = set(sqlite_watch._MAPPED)
    first, second = make_store(url), make_store(url)
    (mine,) = set(sqlite_watch._MAPPED) - before
    first.close()
    assert mine in sqlite_watch._MAPPED
    second.save(Counter())
    second.close()
    assert mine not in sqlite_watch._MAPPED


def test_closing_one_store_leaves_the_locks_of_another(url, tmp_path):
    """Closing any descriptor of the index would drop this process's locks; then another would empty it."""
    first, second = make_store(url), make_store(url)
    id_ = second.save(Counter(1))
    first.close()
    inode = (tmp_path / "watched.db-shm").stat().st_ino
    locks = [line for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]
    assert locks, "the lock that says: somebody uses this index"
    subprocess.run([sys.executable, "-c", COMMIT, url, "7"], check=True)
    assert second.load(id_).value == 1
    assert second.roots["n"] == 7
    second.close()


def test_a_forked_child_watches_anew(url):
    store = make_store(url)
    id_ = store.save(Counter(1))
    watch = store.backend.watch()
    assert watch() == watch()
    child = os.fork()
    if not child:
        status = 1
        try:
            alone = watch() != watch()
            held = store.load(id_)
            subprocess.run([sys.executable, "-c", COMMIT, url, "5"], check=True)
            status = 0 if alone and held.value == 1 and store.roots["n"] == 5 and watch() == watch() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.roots["n"] == 5
    store.close()


def test_a_read_only_store_sees_what_others_commit(url):
    with make_store(url) as writer:
        id_ = writer.save(Counter(1))
        with make_store(url, read_only=True) as reader:
            assert reader.load(id_).value == 1
            writer.load(id_).value = 2
            writer.save(writer.load(id_))
            assert reader.load(id_).value == 2


def test_where_nothing_can_be_mapped_views_ask_the_database(url, monkeypatch):
    monkeypatch.setattr(sqlite_watch, "_map", lambda path: None)
    with make_store(url) as writer, make_store(url) as reader:
        assert writer.backend.watch()() != writer.backend.watch()()
        id_ = writer.save(Counter(1))
        assert reader.load(id_).value == 1
        writer.load(id_).value = 2
        writer.save(writer.load(id_))
        assert reader.load(id_).value == 2


def test_what_was_removed_in_the_transaction_is_not_found_though_it_is_in_memory(url):
    with make_store(url) as store:
        counter = Counter(1)
        id_ = store.save(counter)
        assert store.load(id_) is counter
        with store.transaction():
            store.remove(id_)
            with pytest.raises(perdure.NotFound):
                store.load(id_)
        with pytest.raises(perdure.NotFound):
            store.load(id_)


@pytest.mark.parametrize("wrong", [[], {}, 5, None, "no id"])
def test_what_is_no_id_is_told(url, wrong):
    with make_store(url) as store:
        store.save(Counter())
        with pytest.raises(perdure.InvalidId):
            store.load(wrong)


def test_after_its_own_commit_a_view_asks_nothing_unless_others_commit(url, monkeypatch):
    with make_store(url) as store, make_store(url) as other:
        counter = Counter(1)
        id_ = store.save(counter)
        view = store.desk().view
        asked = []
        revision = store.backend.revision
        monkeypatch.setattr(store.backend, "revision", lambda: asked.append(1) or revision())
        for number in range(5):
            counter.value = number
            store.save(counter)
            assert view.mark == view.watch()
            assert store.load(id_) is counter
        assert not asked
        other.load(id_).value = -1
        other.save(other.load(id_))
        assert view.mark != view.watch()
        assert store.load(id_).value == -1
        assert asked


def test_when_two_commit_in_a_row_neither_takes_the_other_for_itself(url):
    with make_store(url) as one, make_store(url) as two:
        one.save_many([Counter(), Counter()])
        two.save_many([Counter(), Counter()])  # both have numbers left: a save is one commit
        watch = one.backend.watch()
        before = watch()
        one.save(Counter(1))
        between = watch()
        two.save(Counter(2))
        after = watch()
        assert sqlite_watch.is_next(before, between)
        assert sqlite_watch.is_next(between, after)
        assert not sqlite_watch.is_next(before, after)
        assert not sqlite_watch.is_next(after, after)
        assert not sqlite_watch.is_next(object(), after)


def test_numbers_that_nobody_was_shown_are_free_again_when_the_store_is_closed(url):
    for number in range(1, 6):
        with make_store(url, code="off") as store:
            assert store.save(Counter()).number == number
    with make_store(url, code="off") as one, make_store(url, code="off") as two:
        ids = [one.save(Counter()), two.save(Counter()), one.save(Counter()), two.save(Counter())]
        assert len(set(ids)) == 4
        assert min(id_.number for id_ in ids) == 6
    with make_store(url, code="off") as store:
        assert store.save(Counter()).number > max(id_.number for id_ in ids)


@pytest.mark.parametrize("other", ["the same connection", "another one"])
def test_a_commit_goes_on_from_what_others_have_reserved_and_committed(url, tmp_path, other):
    """What a commit left in the table `meta` is known to the next one, but only until anybody changes it."""
    path = tmp_path / "watched.db"
    encode = encoder(Key(bytes(range(32))))

    def draft(number: int) -> Draft:
        return Draft(f"Counter.{number}", 0, 0, "shop:Counter", 0, "", (), {}, b"")

    with closing(SqliteBackend(path)) as backend, closing(SqliteBackend(path)) as beside:
        for step in range(1, 4):
            number = backend.reserve(1)
            assert backend.apply(Batch([draft(number)], counted=True), encode).revision == 2 * step - 1
            (backend if other == "the same connection" else beside).reserve(10)
            number = beside.reserve(1)
            assert beside.apply(Batch([draft(number)], counted=True), encode).revision == 2 * step
            assert beside.describe()[3:5] == (2 * step, number + 1)
        assert len(backend.ids()) == 6


def test_a_commit_alone_asks_for_the_counters_once(url, tmp_path):
    encode = encoder(Key(bytes(range(32))))
    asked: list[str] = []
    with closing(SqliteBackend(tmp_path / "watched.db")) as backend:
        first = backend.reserve(5)
        backend._connection.read(lambda connection: connection.set_trace_callback(asked.append))
        for number in range(first, first + 5):
            drafts = [Draft(f"Counter.{number}", 0, 0, "shop:Counter", 0, "", (), {}, b"")]
            backend.apply(Batch(drafts, counted=True), encode)
        assert sum("FROM meta" in sql for sql in asked) == 1
        assert sum(sql == "COMMIT" for sql in asked) == 5


@needs_kernels
def test_a_file_is_told_from_others_in_both_ways(tmp_path):
    first, other = tmp_path / "first.db", tmp_path / "ö.db"
    for path in (first, other):
        path.write_bytes(b"")
    told = [ways(lambda path=path: sqlite_watch.identity_of(str(path))) for path in (first, other)]
    assert [len(set(each)) for each in told] == [1, 1]
    assert told[0] != told[1]
    status = first.stat()
    assert told[0][0] == (status.st_dev, status.st_ino)
    first.unlink()
    errors = ways(lambda: sqlite_watch.identity_of(str(first)), FileNotFoundError)
    assert errors == [(FileNotFoundError, f"[Errno 2] No such file or directory: {str(first)!r}")] * 2
