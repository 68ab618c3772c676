"""A whole store brought to its classes as they are now, what a store holds, and samples that are kept for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from functools import partial
from pathlib import Path

import pytest

import perdure
from perdure.cli import main
from perdure.errors import TransactionError
from perdure.pickling.renames import Renames
from perdure.records.frame import parse_unverified
from perdure.testing import check_samples
from perdure.upkeep import plan, rename_in_store, upgrade

FIRST = """
class Order(Persistable):
    def __init__(self, amount): self.amount = amount
@dataclass
class Doc(Persistable):
    name: str
class Items(list, Persistable):
    pass
class Plain(Persistable):
    pass
class Price(typing.NamedTuple):
    net: int
    tax: int
class Moved(Persistable):
    pass
class Kind(enum.Enum):
    A = 1
@dataclass(frozen=True, slots=True)
class Frozen(Persistable):
    x: int
    y: int
"""
SECOND = """
@perdure.versioned("shop.Order", version=2, formerly=["shop:Order"])
class Order(Persistable):
    pass
@perdure.upgrade(Order, 1)
def step(state):
    if state["amount"] == 13: raise ValueError("unlucky")
    state["net"] = state.pop("amount")
@dataclass
class Doc(Persistable):
    name: str
    tags: list = field(default_factory=list)
class Items(list, Persistable):
    pass
class Plain(Persistable):
    pass
class Price(typing.NamedTuple):
    tax: int
    net: int
class Elsewhere(Persistable):
    pass
class Kind(enum.Enum):
    A = 1
@dataclass(frozen=True, slots=True)
class Frozen(Persistable):
    x: int
    y: int
perdure.rename("shop:Moved", "shop:Elsewhere")
"""


def save_all(shop, store, orders=(1, 2)):
    items, plain, with_price = shop.Items([shop.Price(1, 2)]), shop.Plain(), shop.Plain()
    plain.x, with_price.price, with_price.kind = 1, shop.Price(1, 2), shop.Kind.A
    objects = [shop.Doc("a"), items, plain, with_price, shop.Moved(), shop.Frozen(1, 2), {"price": shop.Price(3, 4)}, 7]
    return store.save_many([*map(shop.Order, orders), *objects])


def records_of(store):
    return {r.id: r for r in map(parse_unverified, store.backend.scan(internal=False))}


def test_all_is_written_once_and_nothing_else(define, place):
    store = place.open()
    save_all(define("shop", FIRST), store)
    before = records_of(store)
    shop = define("shop", SECOND)
    store = place.open()
    told = []
    dry = upgrade(store, dry_run=True, batch=3, progress=lambda done, of: told.append((done, of)))
    assert records_of(store) == before
    assert told[-1][0] == told[-1][1] == dry.objects == len([*store.backend.scan()])
    done = upgrade(store, batch=3)
    assert (done.written, done.failures, done.problems) == (dry.written, 0, ())
    after = records_of(store)
    changed = {id_.rpartition(".")[0] for id_ in after if after[id_].revision != before[id_].revision}
    assert changed == {"Order", "Doc", "Items", "Plain", "Moved", "dict"}
    assert done.written == 7
    assert {after[id_].class_name for id_ in after} >= {"shop.Order", "shop:Elsewhere"}
    assert upgrade(store).written == 0
    define("shop2", None)
    again = place.open()
    by_class = {type(obj).__name__: obj for obj in again.load_many([*before])}
    assert by_class["Items"][0] == by_class["dict"]["price"]._replace(net=1, tax=2) == shop.Price(net=1, tax=2)


def test_what_cannot_be_loaded_stays_and_is_told(define):
    store = perdure.make_store("memory:")
    shop = define("shop", FIRST + "class Gone(Persistable): pass\n")
    ids = save_all(shop, store, orders=(1, 13, 2))
    gone = store.save(shop.Gone())
    define("shop", SECOND)
    store = perdure.Store(store.backend, store.key)
    before = records_of(store)
    for dry_run in (True, False):
        done = upgrade(store, dry_run=dry_run)
        assert (done.written, done.failures, [problem.id for problem in done.problems]) == (7, 2, [ids[1], gone])
        assert "ValueError: unlucky" in done.problems[0].what
        assert "shop:Gone cannot be found" in done.problems[1].what
    after = records_of(store)
    assert after[ids[1]] == before[ids[1]]
    assert after[gone] == before[gone]
    assert after[ids[2]].class_version == 2


def test_an_upgrade_that_was_cut_off_goes_on(define):
    store = perdure.make_store("memory:")
    save_all(define("shop", FIRST), store, orders=range(100, 120))
    define("shop", SECOND)
    store = perdure.Store(store.backend, store.key)

    def stop(done, of):
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(store, batch=5, progress=stop)
    written = [r.revision > 1 for r in records_of(store).values()].count(True)
    assert 0 < written < 10
    assert upgrade(store).written == 25 - written
    assert upgrade(store).written == 0


def test_others_write_meanwhile(define):
    store = perdure.make_store("memory:")
    ids = save_all(define("shop", FIRST), store)
    define("shop", SECOND)
    store, other = perdure.Store(store.backend, store.key), perdure.Store(store.backend, store.key)
    order = other.load(ids[0])
    order.net = 99
    applied = store.backend.apply

    def apply(batch, encode):
        store.backend.apply = applied  # type: ignore[method-assign]
        other.save(order)  # just before the first batch of the upgrade
        return applied(batch, encode)

    store.backend.apply = apply  # type: ignore[method-assign]
    assert upgrade(store).failures == 0
    assert perdure.Store(store.backend, store.key).load(ids[0]).net == 99
    assert upgrade(store).written == 0


def test_it_makes_commits_of_its_own(define):
    store = perdure.make_store("memory:")
    with store.transaction(), pytest.raises(TransactionError):
        upgrade(store)


def test_plan_counts_classes_versions_and_shapes_importing_nothing(define, monkeypatch):
    store = perdure.make_store("memory:")
    ids = save_all(define("shop", FIRST), store)
    define("shop", SECOND)
    store = perdure.Store(store.backend, store.key)
    store.load(ids[0]).extra = 1
    with store.transaction():
        store.load(ids[0]).extra = 2
    store.remove(ids[1])
    define("shop", None)
    monkeypatch.setitem(sys.modules, "shop", None)  # whoever imports it fails
    rows = {(row.class_name, row.version, row.nested): row for row in plan(store, history=True)}
    now = rows["shop.Order", 2, False]
    assert (now.attributes, now.records, now.older, now.example) == (("extra", "net"), 1, 0, ids[0])
    old = rows["shop:Order", 0, False]
    assert (old.attributes, old.records, old.older) == (("amount",), 0, 2)
    price = rows["shop:Price", 0, True]
    assert (price.attributes, price.records) == (("net", "tax"), 3)
    assert rows["shop:Frozen", 0, False].attributes == ("x", "y")
    assert [row.older for row in plan(store)] == [0] * len(plan(store))


def test_plan_counts_objects_inside_of_classes_that_had_no_version(define):
    """Their old step is needed as long as there are such, also where no layout is told."""
    inside = "\nclass Line:\n    pass\nclass Empty:\n    pass\nclass Bag(dict):\n    pass\n"
    shop = define("shop", FIRST + inside)
    line, other, holder = shop.Line(), shop.Line(), shop.Plain()
    line.count, line.note, other.count = 1, "", 2
    holder.values = [line, other, shop.Line, shop.Empty(), shop.Bag(a=1), uuid.UUID(int=1), partial(shop.Line)]
    store = perdure.make_store("memory:")
    id_ = store.save(holder)
    shop = define(
        "shop",
        FIRST
        + inside.replace("class Line", "@perdure.versioned('shop.Line', version=2, formerly='shop:Line')\nclass Line"),
    )
    perdure.upgrade(shop.Line, 1, rename={"count": "amount"})

    def rows(*, history=False):
        return [(row.class_name, row.version, row.attributes, row.records, row.older)
                for row in plan(store, history=history) if row.nested]  # fmt: skip

    assert rows() == [
        ("shop:Bag", 0, (), 1, 0),
        ("shop:Empty", 0, (), 1, 0),
        ("shop:Line", 0, ("count",), 1, 0),
        ("shop:Line", 0, ("count", "note"), 1, 0),
    ]
    assert upgrade(store).written == 1
    assert store.load(id_).values[0].amount == 1
    assert [row for row in rows() if "Line" in row[0]] == [
        ("shop.Line", 2, ("amount",), 1, 0),
        ("shop.Line", 2, ("amount", "note"), 1, 0),
    ]
    assert ("shop:Line", 0, ("count",), 0, 1) in rows(history=True)


def test_what_payloads_say_of_classes_is_renamed_at_rest(define):
    """The rewriter knows the calls by which payloads name classes with layouts and versions."""
    text = (
        FIRST
        + """
@perdure.versioned("shop.Line", version=1)
@dataclass
class Line:
    count: int
@perdure.versioned("shop.Basket")
class Basket(Persistable):
    pass
"""
    )
    shop = define("shop", text)
    basket, holder = shop.Basket(), shop.Plain()
    values = [shop.Line(1), shop.Price(1, 2), shop.Kind.A, shop.Line, "shop:Line"]
    basket.values, holder.values, holder.basket = list(values), list(values), basket
    store = perdure.make_store("memory:")
    ids = store.save_many([basket, holder, list(values)])
    names = Renames({"shop:Line": "shop:Row", "shop:Price": "shop:Cost"}, {"shop": "market"})
    report = rename_in_store(store, names)
    assert report.refused == ()
    define("shop", None)
    from perdure.pickling.declared import DECLARED

    DECLARED.clear()
    market = define("market", text.replace("class Line", "class Row").replace("class Price", "class Cost"))
    records = records_of(store)
    assert records[ids[0]].fields == {"class": "market:Basket"}
    again = perdure.Store(store.backend, store.key)
    for found in (again.load(ids[0]).values, again.load(ids[1]).values, again.load(ids[2])):
        assert found == [market.Row(1), market.Cost(1, 2), market.Kind.A, market.Row, "shop:Line"]
    assert again.load(ids[1]).basket is again.load(ids[0])
    assert upgrade(again).written == 0


# -- samples ---------------------------------------------------------------------------------------------------


def test_samples_are_written_once_for_each_class_and_version_and_load_for_ever(define, tmp_path):
    text = """
@perdure.versioned("shop.Order", version=1, sample=lambda: Order(3))
class Order(Persistable):
    def __init__(self, amount): self.amount, self.next = amount, Line()
@perdure.versioned("shop.Line")
class Line(Persistable):
    pass
@perdure.versioned("shop.Price")
@dataclass
class Price:
    net: int
"""
    shop = define("shop", text)
    folder = tmp_path / "samples"
    done = perdure.freeze_samples(folder)
    assert (done.written, done.without) == (("shop.Line-1.sample", "shop.Order-1.sample"), ("shop.Price",))
    with pytest.raises(AssertionError, match=r"shop.Price has no sample"):
        check_samples(folder)
    done = perdure.freeze_samples(folder, [shop.Price(5)])
    assert done.written == ("shop.Price-1.sample",)
    assert len(done.kept) == 2
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = check_samples(folder)
    assert found["shop.Order-1.sample"].amount == 3
    assert found["shop.Price-1.sample"] == shop.Price(5)

    text = text.replace("version=1", "version=2").replace("self.amount", "self.net")
    define("shop", text + 'perdure.upgrade(Order, 1, rename={"amount": "net"})\n')
    with pytest.raises(AssertionError, match=r"shop.Order has no sample"):
        check_samples(folder)
    perdure.freeze_samples(folder)
    found = check_samples(folder)
    assert found["shop.Order-1.sample"].net == found["shop.Order-2.sample"].net == 3
    assert {name: (folder / name).read_bytes() for name in first} == first

    define("shop", text.replace("version=2", "version=3, oldest=2"))
    (folder / "shop.Line-1.sample").write_bytes(first["shop.Line-1.sample"][:-3])
    with pytest.raises(AssertionError, match=r"(?s)shop.Line-1.sample: .*cut short.*shop.Order-1.sample: "):
        check_samples(folder)


def test_a_sample_that_is_none_is_refused(define, tmp_path):
    define("shop", "@perdure.versioned('shop.A', sample=lambda: 7)\nclass A: pass\n")
    with pytest.raises(perdure.InvalidArgument, match=r"The sample of shop.A is a int"):
        perdure.freeze_samples(tmp_path)
    text = "@perdure.versioned('shop.A', sample=lambda: A())\nclass A:\n"
    define("shop", text + "    def __init__(self): self.data = bytes(100_000)\n")
    with pytest.raises(perdure.InvalidArgument, match="large"):
        perdure.freeze_samples(tmp_path)
    assert [*tmp_path.iterdir()] == []


# -- the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def shop_folder(tmp_path, monkeypatch):
    """A folder with a store in it, whose class got a version since."""
    monkeypatch.chdir(tmp_path)
    head = "import perdure\nfrom perdure import Persistable\n"
    Path("cli_shop.py").write_text(f"{head}class Order(Persistable):\n    pass\n")
    script = (
        "import perdure, cli_shop\nstore = perdure.make_store('sqlite:///shop.db')\n"
        "for n in range(3):\n    o = cli_shop.Order()\n    o.amount = n\n    store.save(o)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    Path("cli_shop.py").write_text(
        f"{head}@perdure.versioned('shop.Order', version=2, formerly=['cli_shop:Order'])\nclass Order(Persistable):\n"
        "    pass\n@perdure.upgrade(Order, 1)\ndef step(state):\n"
        "    assert state['amount'] != 7\n    state['net'] = state.pop('amount')\n"
    )
    yield tmp_path
    sys.modules.pop("cli_shop", None)


def test_cli_upgrade_and_plan(shop_folder, capsys):
    assert main(["plan", "sqlite:///shop.db"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["CLASS", "RECORDS", "EXAMPLE", "ATTRIBUTES"]
    assert out[1].split() == ["cli_shop:Order", "3", "Order.1", "amount"]
    assert "cli_shop" not in sys.modules
    assert main(["upgrade", "sqlite:///shop.db", "--import", "cli_shop", "--dry-run"]) == 0
    assert capsys.readouterr().out == "3 records of 5 would be written anew.\n"
    assert main(["upgrade", "sqlite:///shop.db", "--import", "cli_shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": 3, "objects": 5, "failures": 0, "problems": []}
    assert main(["plan", "--store", "sqlite:///shop.db", "--history", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["class_name"], row["version"], row["records"], row["older"]) for row in rows] == [
        ("cli_shop:Order", 0, 0, 3), ("shop.Order", 2, 3, 0),
    ]  # fmt: skip


def test_cli_upgrade_tells_what_stayed(shop_folder, capsys):
    text = Path("cli_shop.py").read_text().replace("!= 7", "!= 1")
    Path("cli_shop.py").write_text(text)
    assert main(["upgrade", "sqlite:///shop.db", "--import", "cli_shop"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "2 records of 5 written anew.\n"
    assert "cli_shop:step" in captured.err
    assert "1 record could not be looked at, and stayed." in captured.err


def test_cli_wrong_use(shop_folder, capsys):
    assert main(["plan", "sqlite:///none.db"]) == 3
    assert main(["upgrade", "sqlite:///shop.db", "--import", "no_such_module_here"]) == 2
    Path("bad.toml").write_text("[rename]\n'a:B' = 'a:B'\n")
    assert main(["upgrade", "sqlite:///shop.db", "--names", "bad.toml"]) == 2
    assert "bad.toml: a:B is to become a:B, which it is" in capsys.readouterr().err
