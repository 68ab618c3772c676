"""Environment variables and secrets: stored by name, never with their values."""

from __future__ import annotations

import copy
import pickle
from secrets import token_hex

import pytest

import perdure
from perdure import CannotResolve, Persistable
from perdure.outside import Environment, Secret
from perdure.pickling.outline import outside_references
from perdure.records.frame import parse_unverified


class Connection(Persistable):
    def __init__(self, user, password):
        self.user, self.password = user, password


class Vault:
    """A source of secrets that is no mapping."""

    def __init__(self, **values):
        self.values = values

    def __call__(self, name):
        return self.values.get(name)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/a.db"


def test_the_value_is_that_of_the_process_that_asks(url, monkeypatch):
    monkeypatch.setenv("APP_USER", "one")
    with perdure.make_store(url) as store:
        id = store.save(Connection(Environment("APP_USER"), None))
        frame = store.backend.read([id])[id]
    assert b"APP_USER" in frame
    assert b"one" not in parse_unverified(frame).payload
    monkeypatch.setenv("APP_USER", "two")
    with perdure.make_store(url) as store:
        user = store.load(id).user
        assert user.value == "two"
        monkeypatch.delenv("APP_USER")
        with pytest.raises(CannotResolve, match="APP_USER is not set") as caught:
            user.value
    assert (caught.value.tag, caught.value.key) == ("perdure.environment", "APP_USER")


@pytest.mark.parametrize("kind", [dict, Vault])
def test_a_secret_never_gets_into_a_store(url, tmp_path, kind):
    value = token_hex()  # not a text in this module, which is archived with the store's code records
    secrets = kind(db=value)
    with perdure.make_store(url, resources={"secrets": secrets}) as store:
        connection = Connection("me", {"password": Secret("db", secrets)})
        assert connection.password["password"].value == value
        id = store.save(connection)
        store.roots["password"] = Secret("db", secrets)
        store.invalidate_cache()
        assert connection.password["password"].value == value
        assert store.roots["password"].value == value
    for path in tmp_path.iterdir():
        assert value.encode() not in path.read_bytes()
    with perdure.make_store(url, resources={"secrets": {"db": "changed"}}) as store:
        assert store.load(id).password["password"].value == "changed"


@pytest.mark.parametrize("secrets", [None, {}, {"db": None}, Vault()], ids=["none", "empty", "null", "function"])
def test_a_secret_that_is_not_there(url, secrets):
    with perdure.make_store(url, resources={} if secrets is None else {"secrets": secrets}) as store:
        id = store.save(Connection("me", Secret("db")))
        store.invalidate_cache()
        password = store.load(id).password  # to look at the connection needs no secret
        with pytest.raises(CannotResolve, match="'db'") as caught:
            password.value
    assert "secrets" in caught.value.hint
    assert (caught.value.tag, caught.value.key) == ("perdure.secret", "db")


def test_nothing_shows_the_value(monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2")
    for named in (Environment("TOKEN"), Secret("TOKEN", {"TOKEN": "hunter2"})):
        assert named.value == "hunter2"
        shown = [repr(named), str(named), f"{named}", repr([named]), str(pickle.dumps(named)), str(named.__reduce__())]
        assert all("TOKEN" in text and "hunter2" not in text for text in shown)


def test_equal_by_class_and_name():
    assert Secret("a") == Secret("a", {"a": 1})
    assert Secret("a") != Secret("b")
    assert Secret("a") != Environment("a")
    assert len({Secret("a"), Secret("a", {}), Environment("a"), Environment("a")}) == 2
    secret = Secret("a", {"a": 1})
    assert copy.deepcopy([secret])[0] is copy.copy(secret) is secret


@pytest.mark.parametrize("cls", [Environment, Secret])
@pytest.mark.parametrize("name", ["", None, 1, b"name"])
def test_names_are_texts(cls, name):
    with pytest.raises(TypeError, match="a name is a str"):
        cls(name)


def test_a_look_at_an_unchanged_object_writes_nothing(url):
    with perdure.make_store(url) as store:
        id = store.save(Connection({Environment("A"), Secret("B"), Environment("C")}, [Secret("D")]))
        store.invalidate_cache()
        with store.transaction():
            assert len(store.load(id).user) == 3
        with store.transaction():
            store.load(id).user = {Secret("B"), Environment("C"), Environment("A")}
        assert len(store.transactions()) == 1
        with store.transaction():
            store.load(id).password = [Secret("E")]
        assert len(store.transactions()) == 2
        record = parse_unverified(store.backend.read([id])[id])
        found = {(found.tag, found.key) for found in outside_references(record.payload, record.flags)}
        assert ("perdure.secret", "E") in found
        assert len(found) == 4


def test_bytes_without_a_store(monkeypatch):
    monkeypatch.setenv("USER_NAME", "me")
    data = perdure.dumps({"user": Environment("USER_NAME"), "password": Secret("db")})
    loaded = perdure.loads(data, resources={"secrets": {"db": "hunter2"}})
    assert (loaded["user"].value, loaded["password"].value) == ("me", "hunter2")
    assert pickle.loads(pickle.dumps(Environment("USER_NAME"))).value == "me"
