"""Instances of SQLAlchemy's mapped classes: stored by class and primary key."""

from __future__ import annotations

import datetime
import decimal
import uuid

import pytest
from sqlalchemy import ForeignKey, Numeric, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker

import perdure
from perdure import CannotPickle, CannotResolve, Persistable
from perdure.outside import mapped
from perdure.pickling.outline import outside_references
from perdure.records.frame import parse_unverified


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="customer")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "customer"}


class Company(Customer):
    __mapper_args__ = {"polymorphic_identity": "company"}


class Line(Base):
    __tablename__ = "line"
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), primary_key=True)
    number: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[Customer] = relationship()


class Keyed(Base):
    __tablename__ = "keyed"
    token: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime.datetime] = mapped_column(primary_key=True)
    day: Mapped[datetime.date] = mapped_column(primary_key=True)
    hour: Mapped[datetime.time] = mapped_column(primary_key=True)
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2, asdecimal=True), primary_key=True)


class OtherBase(DeclarativeBase):
    pass


class Note(OtherBase):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(Persistable):
    def __init__(self, customer):
        self.customer = customer


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/customers.db")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine, registrations):
    mapped(Base)
    with Session(engine) as session:
        yield session


@pytest.fixture
def ada(session):
    ada = Customer(name="Ada")
    session.add(ada)
    session.commit()
    return ada


def test_the_row_stays_in_its_database(session, engine, ada, tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    with perdure.make_store(url) as store:
        id = store.save(Order({"who": [ada, ada]}))
        record = parse_unverified(store.backend.read([id])[id])
        assert b"Ada" not in record.payload
        (found,) = outside_references(record.payload, record.flags)
        assert found == (".customer['who'][0]", "sqlalchemy", ("test_outside_orm:Customer", 1))
    ada.name = "Augusta Ada"
    session.commit()
    with Session(engine) as later, perdure.make_store(url, resources={"session": later}) as store:
        first, second = store.load(id).customer["who"]
        assert first is second is later.get(Customer, 1)
        assert first.name == "Augusta Ada"


def test_within_the_session_it_is_the_same_object(session, ada):
    assert perdure.loads(perdure.dumps([ada]), resources={"session": session})[0] is ada


def test_the_session_may_be_given_by_a_function(engine, ada):
    data = perdure.dumps(ada)
    sessions = scoped_session(sessionmaker(engine))
    try:
        assert perdure.loads(data, resources={"session": sessions}) is sessions.get(Customer, 1)
    finally:
        sessions.remove()


def test_subclasses_and_compound_keys(session, ada):
    company = Company(name="Analytical")
    line = Line(customer=ada, number="a/1")
    session.add_all([company, line])
    session.commit()
    data = perdure.dumps([company, line])
    session.expunge_all()
    company, line = perdure.loads(data, resources={"session": session})
    assert (type(company), company.name) == (Company, "Analytical")
    assert (type(line), line.number, line.customer.name) == (Line, "a/1", "Ada")


def test_primary_keys_of_other_types(session):
    token = uuid.UUID(int=7)
    at, day, hour = datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.date(2024, 2, 29), datetime.time(1, 2)
    session.add(Keyed(token=token, at=at, day=day, hour=hour, price=decimal.Decimal("1.50")))
    session.commit()
    keyed = session.query(Keyed).one()
    data = perdure.dumps(keyed)
    session.expunge_all()
    loaded = perdure.loads(data, resources={"session": session})
    assert (loaded.token, loaded.at, loaded.day, loaded.hour, loaded.price) == (
        token, at, day, hour, decimal.Decimal("1.5"),
    )  # fmt: skip


def test_a_look_at_an_unchanged_object_writes_nothing(session, ada, tmp_path):
    with perdure.make_store(f"sqlite:///{tmp_path}/a.db", resources={"session": session}) as store:
        id = store.save(Order({ada}))
        store.invalidate_cache()
        order = store.load(id)
        with store.transaction():
            order.customer = {ada}
        ada.name = "its own business"
        with store.transaction():
            assert order.customer
        assert len(store.transactions()) == 1
        other = Customer(name="Bob")
        session.add(other)
        session.flush()
        with store.transaction():
            order.customer = {other}
        assert len(store.transactions()) == 2


def test_many_rows_come_in_few_queries(session, engine, tmp_path):
    session.add_all([*(Customer(name=f"c{n}") for n in range(700)), *(Company(name=f"f{n}") for n in range(20))])
    session.commit()
    customers = session.query(Customer).order_by(Customer.id).all()
    line = Line(customer=customers[0], number="1")
    session.add(line)
    session.commit()
    with perdure.make_store(f"sqlite:///{tmp_path}/a.db") as store:
        ids = store.save_many([Order([customer, line]) for customer in customers])
    queries = []
    event.listen(engine, "before_cursor_execute", lambda *told: queries.append(told[2]))
    with (
        Session(engine) as later,
        perdure.make_store(f"sqlite:///{tmp_path}/a.db", resources={"session": later}) as store,
    ):
        orders = store.load_many(ids)
        assert len(queries) == 4  # 500 and 200 customers, 20 companies, one line: its key has two columns
        assert [order.customer[0].name for order in orders] == [f"c{n}" for n in range(700)] + [
            f"f{n}" for n in range(20)
        ]
        assert all(order.customer[0] is later.get(type(order.customer[0]), order.customer[0].id) for order in orders)
        assert len({id(order.customer[1]) for order in orders}) == 1


# -- what goes wrong ---------------------------------------------------------------------------------------------


def transient(session, ada):
    return Customer(name="new")


def pending(session, ada):
    customer = Customer(name="new")
    session.add(customer)
    return customer


def detached(session, ada):
    session.expunge(ada)
    return ada


def deleted(session, ada):
    session.delete(ada)
    session.flush()
    return ada


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (transient, "never added to a session"),
        (pending, "flush its session first"),
        (detached, "detached from its session"),
        (deleted, "its row was deleted"),
    ],
)
def test_an_instance_without_a_row_is_refused(session, ada, make, told):
    with pytest.raises(CannotPickle, match=told) as caught:
        perdure.dumps({"order": [make(session, ada)]})
    assert caught.value.path == "dict → ['order'][0]"


def test_a_row_that_is_gone(session, ada):
    data = perdure.dumps([ada])
    session.delete(ada)
    session.commit()
    with pytest.raises(CannotResolve, match="there is no such row") as caught:
        perdure.loads(data, resources={"session": session})
    assert (caught.value.tag, caught.value.key) == ("sqlalchemy", ("test_outside_orm:Customer", 1))
    assert caught.value.path == "list → [0]"


def test_without_a_session(ada):
    with pytest.raises(CannotResolve, match="No resource 'session'"):
        perdure.loads(perdure.dumps([ada]))


def test_a_record_names_no_class_outside_of_the_base(session, ada):
    data = perdure.dumps([ada])
    mapped(OtherBase, tag="other")
    forged = perdure.dumps([Forged("sqlalchemy", ("test_outside_orm:Note", 1))])
    with pytest.raises(CannotResolve, match="no class test_outside_orm:Note is mapped here under Base"):
        perdure.loads(forged, resources={"session": session})
    forged = perdure.dumps([Forged("sqlalchemy", ("os:system", 1))])
    with pytest.raises(CannotResolve, match="no class os:system"):
        perdure.loads(forged, resources={"session": session})
    assert perdure.loads(data, resources={"session": session}) == [ada]


class Forged:
    def __init__(self, tag, key):
        self.call = tag, key

    def __reduce__(self):
        return perdure._outside, self.call


def test_one_mapped_class(session, ada):
    mapped(Customer, tag="customer", session="customers")
    data = perdure.dumps(ada)
    assert perdure.loads(data, resources={"customers": session}) is ada
