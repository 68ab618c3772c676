"""Rows A20 and D9: values of every object in columns of the store's table, where other programs can ask for them."""

from __future__ import annotations

import csv
import operator
import sqlite3
from datetime import UTC, datetime

import pytest
import servers
from sqlalchemy import VARCHAR, Boolean, Column, DateTime, Float, Integer, Numeric, String, create_engine, text
from sqlalchemy.types import UserDefinedType

from perdure import CannotIndex, NotIndexed, Persistable, make_store
from perdure.upkeep import export


class Foo(Persistable):
    def __init__(self, value):
        self.value = value


class Oddity(UserDefinedType):
    """A type of column that no database has."""

    def get_col_spec(self):
        return "ODDITY"


class Task(Persistable):
    def __init__(self, foo=None, state="new"):
        self.foo, self.state = foo, state


GET_STATE = operator.attrgetter("state")
GET_FOO_VALUE = operator.attrgetter("foo.value")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:////{(tmp_path / 'store.db').as_posix().lstrip('/')}"


def rows(tmp_path, columns):
    """As another program reads them."""
    connection = sqlite3.connect(tmp_path / "store.db")
    try:
        return connection.execute(f"SELECT number, {columns} FROM records WHERE class > 0 ORDER BY number").fetchall()
    finally:
        connection.close()


def number(id_):
    return int(id_.rpartition(".")[2])


# -- D9 --------------------------------------------------------------------------------------------------------


def test_d9_a_column_holds_what_its_function_gives(url, tmp_path):
    extra = {"state": GET_STATE, Column("extra", VARCHAR(128)): GET_FOO_VALUE}
    with make_store(url, extra_fields=extra) as store:
        foo = Foo("bar")
        task = Task(foo)
        told = "The extra field {!r} is left empty where its function raises, as for .*:Foo: AttributeError"
        with (
            pytest.warns(UserWarning, match=told.format("state")),
            pytest.warns(UserWarning, match=told.format("extra")),
        ):
            id_ = store.save(task)  # and a Foo, which has neither
        store.save(Foo("told once"))
        assert {n: rest for n, *rest in rows(tmp_path, "state, extra")}[number(id_)] == ["new", "bar"]
        task.state = "done"
        store.save(task)
        assert {n: rest for n, *rest in rows(tmp_path, "state, extra")}[number(id_)] == ["done", "bar"]
        assert store.find(Task, extra="bar", state="done") == [task]
        assert store.history(id_)[0].fields == {"state": "done", "extra": "bar"}
        store.remove(id_)
        assert number(id_) not in [n for n, _ in rows(tmp_path, "state")]


@pytest.mark.filterwarnings("ignore:The extra field")
def test_d9_a_column_that_is_there_is_used(url, tmp_path):
    make_store(url).close()
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("ALTER TABLE records ADD COLUMN extra VARCHAR(128)")
    connection.close()
    with make_store(url, extra_fields={Column("extra", VARCHAR(128)): GET_FOO_VALUE}) as store:
        store.save(Task(Foo("bar")))
        store.save(Task(Foo("bar")))
    found = rows(tmp_path, "extra")
    assert sorted(str(value) for _, value in found) == ["None", "None", "bar", "bar"]
    with make_store(url, extra_fields={"extra": GET_FOO_VALUE}) as store:  # again: nothing is added twice
        assert [task.foo.value for task in store.find(Task, extra="bar")] == ["bar", "bar"]


def test_d9_values_are_values_and_never_sql(url, tmp_path):
    bobby = "Robert'); DROP TABLE records; --"
    with make_store(url, extra_fields={'"); DROP TABLE meta; --': GET_STATE, "state": GET_STATE}) as store:
        id_ = store.save(Task(state=bobby))
        assert rows(tmp_path, "state") == [(number(id_), bobby)]
        assert [task.state for task in store.find(Task, state=bobby)] == [bobby]


def test_d9_no_read_transaction_stays_open(url, tmp_path):
    with make_store(url, extra_fields={"state": GET_STATE}) as store:
        id_ = store.save(Task())
        store.invalidate_cache()
        assert store.load(id_).state == "new"
        assert store.count(Task, state="new") == 1
        other = sqlite3.connect(tmp_path / "store.db", timeout=0)
        other.execute("CREATE TABLE others (x)")
        other.execute("DROP TABLE others")
        other.close()


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        (Column("extra", VARCHAR(3)), "four", "4 characters are more than the 3"),
        (Column("extra", VARCHAR(3)), 4, r"the column holds VARCHAR\(3\)"),
        (Column("extra", Integer), "four", "the column holds INTEGER"),
        (Column("extra", Integer), 1.5, "the column holds INTEGER"),
        (Column("extra", Float), "1.5", "the column holds FLOAT"),
        ("extra", [1], "no database orders such values"),
    ],
)
def test_d9_what_a_column_cannot_hold_is_named(url, column, value, why):
    with make_store(url, extra_fields={column: GET_STATE}) as store:
        with pytest.raises(CannotIndex, match=rf"Task.*its field 'extra' is a .*{why}"):
            store.save(Task(state=value))
        assert store.list() == []


def test_d9_columns_hold_what_fits(url, tmp_path):
    columns = {
        Column("a", Boolean): lambda _: True,
        Column("b", Float): lambda _: 2,
        Column("c", VARCHAR): lambda _: "any length" * 20,
        Column("d", DateTime): lambda _: datetime(2026, 1, 2, tzinfo=UTC),
    }
    with make_store(url, extra_fields=columns) as store:
        id_ = store.save(Task())
    moment = "2026-01-02T00:00:00.000000+00:00"
    assert rows(tmp_path, "a, b, c, d") == [(number(id_), 1, 2, "any length" * 20, moment)]


def test_d9_wrong_use(url):
    with pytest.raises(TypeError, match="is a function of an object"):
        make_store(url, extra_fields={"state": "state"})
    with pytest.raises(TypeError, match="keyed by names or SQLAlchemy columns"):
        make_store(url, extra_fields={3: GET_STATE})
    with pytest.raises(CannotIndex, match="'Frame' of its own"):
        make_store(url, extra_fields={"Frame": GET_STATE})
    with pytest.raises(ValueError, match="a column twice"):
        make_store(url, extra_fields={"state": GET_STATE, Column("state", Integer): GET_STATE})
    with pytest.raises(ValueError, match="a column twice"):
        make_store(url, extra_fields={"state": GET_STATE, "State": GET_STATE})


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_d9_other_stores_keep_the_fields_in_the_header(kind, tmp_path):
    with make_store("memory:" if kind == "memory" else tmp_path, extra_fields={"extra": GET_STATE}) as store:
        task = Task(state="x")
        id_ = store.save(task)
        assert store.history(id_)[0].fields == {"extra": "x"}
        assert store.find(Task, extra="x") == store.find(Persistable, extra__startswith="x") == [task]
        with store.transaction():
            task.state = "y"
            assert store.find(Task, extra="y") == [task]


def test_d9_an_extra_field_of_a_full_store(url, tmp_path):
    with make_store(url) as store:
        ids = store.save_many([Task(state="old"), Task(state="older")])
    with make_store(url, extra_fields={"state": GET_STATE}) as store:
        store.save(Task(state="new"))
        with pytest.raises(NotIndexed):
            store.find(Task, state="old")
        assert store.reindex(Task) == 2
        assert [task.persistent_id for task in store.find(Task, state="old")] == ids[:1]
    assert [state for _, state in rows(tmp_path, "state")] == ["old", "older", "new"]


@pytest.fixture(params=servers.KINDS)
def on_server(request, tmp_path):
    name = servers.table_of(tmp_path)
    yield request.param, f"{servers.url_of(request.param)}#table={name}", name
    servers.drop_tables(request.param, {name})


def test_d9_columns_on_servers(on_server):
    kind, url, table = on_server
    extra = {"state": GET_STATE, Column("extra", VARCHAR(8)): GET_STATE, Column("size", Integer): lambda task: task.foo}
    asked = f"SELECT state, extra, size FROM {table} WHERE class > 0 ORDER BY number"
    with make_store(url, extra_fields=extra) as store:
        first, second = Task(1, "100% 'new'"[:8]), Task(True, "old")
        ids = store.save_many([first, second])
        assert servers.query(kind, asked) == [("100% 'ne", "100% 'ne", 1), ("old", "old", 1)]
        second.state, second.foo = None, None
        store.save(second)
        assert servers.query(kind, asked)[1] == (None, None, None)
        assert store.find(Task, extra="100% 'ne", size=1) == [first]
        with pytest.raises(CannotIndex, match="9 characters are more than the 8"):
            store.save(Task(state="too longs"))
        many = [Task(number, "many") for number in range(300)]  # so many go by another way
        store.save_many(many)
        for task in many:
            task.state = "changed"
        store.save_many(many)
        assert servers.query(kind, f"SELECT count(*) FROM {table} WHERE extra = 'changed' AND size < 100") == [(100,)]
        store.remove(ids[0])
        assert servers.query(kind, f"SELECT count(*) FROM {table} WHERE state LIKE '100%%'") == [(0,)]
    servers.execute(kind, f"ALTER TABLE {table} ADD COLUMN others VARCHAR(20)")
    with make_store(url, extra_fields={"others": GET_STATE}) as store:  # one that is there, for all that it takes
        store.save(Task(state="used"))
        assert servers.query(kind, f"SELECT count(*) FROM {table} WHERE others = 'used'") == [(1,)]
    with pytest.raises(CannotIndex, match="'frame' of its own"):
        make_store(url, extra_fields={"frame": GET_STATE})
    with make_store(url, read_only=True, extra_fields={"never": GET_STATE}):
        pass
    with make_store(url) as store:  # without any: what it does not know it leaves alone
        assert len(store.list()) == 302


# -- A20 -----------------------------------------------------------------------------------------------------


REFUSED = [  # by kind of server: type of the column, and what it cannot hold
    ("postgresql", Integer, 2**31),
    ("postgresql", None, "nul \0"),
    ("postgresql", Numeric(5, 2), 123456.0),
    ("postgresql", DateTime, "no time"),
    ("mysql", Integer, 2**31),
    ("mysql", Float, float("inf")),
    ("mysql", Numeric(5, 2), 123456.0),
    ("mysql", DateTime, "no time"),
]


@pytest.mark.parametrize(("kind", "type_", "value"), REFUSED)
def test_d9_what_a_column_on_a_server_cannot_hold_is_named(kind, type_, value, tmp_path):
    url = f"{servers.url_of(kind)}#table={servers.table_of(tmp_path)}"
    column = "load" if type_ is None else Column("load", type_)
    try:
        with make_store(url, extra_fields={column: lambda task: task.foo}) as store:
            first = store.save(Task(None))
            with pytest.raises(CannotIndex, match=r"^Task\.\d+ cannot be saved: .* load = ") as raised:
                store.save(Task(value))
            assert raised.value.ids[0] in str(raised.value)
            assert store.list() == [first]
            assert store.save(Task(None)) in store  # the store is usable
            assert store.check() == []
    finally:
        servers.drop_tables(kind, {servers.table_of(tmp_path)})


@pytest.mark.parametrize("kind", servers.KINDS)
def test_d9_odd_names_and_types_of_columns_on_servers(kind, tmp_path):
    url = f"{servers.url_of(kind)}#table={servers.table_of(tmp_path)}"
    now = datetime(2026, 11, 26, 9, 30)
    fields = {
        "load %": lambda task: task.foo,
        "50%%": lambda task: 50,
        'a "quoted" `name`': lambda task: "text",
        Column("long", String): lambda task: "x" * 900,
        Column("since", DateTime): lambda task: now,
        **{f"more_{number}": lambda task: "m" for number in range(40)},
    }
    try:
        for load in (1, 2):  # a store that has the columns already, too
            with make_store(url, extra_fields=fields) as store:
                store.save(Task(load))
        found = servers.query(kind, f"SELECT * FROM {servers.table_of(tmp_path)} WHERE class > 0")
        assert len(found) == 2
        assert all({"50", "text", "m", "x" * 900} <= {*map(str, row)} and now in row for row in found)
    finally:
        servers.drop_tables(kind, {servers.table_of(tmp_path)})


@pytest.mark.parametrize("kind", servers.KINDS)
def test_d9_a_type_that_the_database_does_not_know_is_named(kind, tmp_path):
    url = f"{servers.url_of(kind)}#table={servers.table_of(tmp_path)}"
    try:
        with pytest.raises(CannotIndex, match="cannot have a column 'odd' of type ODDITY"):
            make_store(url, extra_fields={Column("odd", Oddity()): lambda task: 1})
    finally:
        servers.drop_tables(kind, {servers.table_of(tmp_path)})


def test_a20_another_program_asks_the_database(url):
    with make_store(url, extra_fields={Column("state", VARCHAR(20)): GET_STATE}) as store:
        store.save_many([Task(state=state) for state in ("new", "done", "done")])
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM records WHERE state = 'done'")).scalar() == 2
    engine.dispose()


@pytest.mark.filterwarnings("ignore:The extra field 'state' is left empty")
def test_a20_an_answer_is_written_as_csv(url, tmp_path):
    with make_store(url, extra_fields={"state": GET_STATE}) as store:
        store.save_many([Task(Foo("a, b"), state) for state in ("new", "done")])
        with open(tmp_path / "tasks.csv", "w", newline="") as file:
            export(store.find(Task, order_by="state"), ["state", "foo.value", "missing"], file)
    with open(tmp_path / "tasks.csv", newline="") as file:
        assert list(csv.reader(file)) == [["state", "foo.value", "missing"], ["done", "a, b", ""], ["new", "a, b", ""]]
