"""Classes of ZODB's packages are stored as they are: `persistent.Persistent`, and BTrees that load piece by piece."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from BTrees.IOBTree import IOBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from places import Place

from perdure import CannotPickle, ConflictError, NotFound, Persistable, StillReferred, StoreClosed, WrongView


class Account(Persistent):
    def __init__(self, owner, amount=0):
        self.owner = owner
        self.amount = amount
        self.notes = []
        self._v_shown = True


class Person(Persistable):
    def __init__(self, name):
        self.name = name
        self.accounts = PersistentList()


class Odd(Persistent):
    def __new__(cls, size=3):
        return super().__new__(cls)

    def __getnewargs__(self):
        return (3,)


def in_thread(work):
    """Run `work` in a thread of its own; what it raises is raised here."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def reads(store):
    """A list that grows by the ids of each read of the store's backend."""
    asked, read = [], store.backend.read

    def counted(ids, at=None):
        ids = list(ids)
        asked.append(ids)
        return read(ids, at)

    store.backend.read = counted
    return asked


def test_a_graph_of_both_kinds_is_kept(place: Place):
    person = Person("Ada")
    account = Account(person, 5)
    person.accounts.append(account)
    person.accounts.append(PersistentMapping({"main": account}))
    store = place.open()
    id_ = store.save(person)
    again = place.open().load(id_)
    first, mapping = again.accounts
    assert type(again.accounts) is PersistentList
    assert (first.amount, first.owner is again, mapping["main"] is first) == (5, True, True)
    assert not hasattr(first, "_v_shown")
    assert {str(id_).partition(".")[0] for id_ in store.list()} == {
        "Person", "PersistentList", "Account", "PersistentMapping",
    }  # fmt: skip


def test_a_guest_is_saved_loaded_and_removed_by_its_id(place: Place):
    store = place.open()
    account = Account("Ada", 5)
    id_ = store.save(account)
    assert id_.startswith("Account.")
    assert store.save(account) == id_
    other = place.open()
    assert other.load(id_).amount == 5
    assert other.load(id_) is other.load_many([id_])[0]
    holder = other.save(PersistentList([other.load(id_)]))
    with pytest.raises(StillReferred):
        other.remove(id_)
    other.remove(holder)
    kept = other.load(id_)
    other.remove(id_)
    with pytest.raises(NotFound):
        other.load(id_)
    assert (kept.amount, kept._p_jar, kept._p_oid) == (5, None, None)


def test_a_change_is_one_small_record(place: Place):
    tree = OOBTree({f"key {number:05}": number for number in range(5000)})
    tree["account"] = Account("Ada")
    store = place.open()
    store.roots["tree"] = tree
    later = place.open()
    tree = later.roots["tree"]
    with later.transaction():
        tree["key 00077"] = "new"
        tree["account"].amount = 3
    (commit, *_) = later.transactions(limit=1)
    assert len(commit.numbers) == 2
    last = place.open().roots["tree"]
    assert (last["key 00077"], last["key 00078"], last["account"].amount, len(last)) == ("new", 78, 3, 5001)


def test_a_look_up_reads_a_few_buckets(place: Place):
    store = place.open()
    store.roots["tree"] = IOBTree({number: str(number) for number in range(100_000)})
    later = place.open()
    tree = later.roots["tree"]
    asked = reads(later)
    assert tree[77_777] == "77777"
    assert sum(map(len, asked)) <= 4
    assert tree[77_778] == "77778"
    assert sum(map(len, asked)) <= 5


def test_what_was_only_looked_at_is_not_written(place: Place):
    store = place.open()
    store.roots["tree"] = OOTreeSet(range(1000))
    later = place.open()
    assert sum(later.roots["tree"]) == 499500
    revision = later.revision()
    with later.transaction():
        assert 7 in later.roots["tree"]
    assert later.revision() == revision


def test_a_mark_of_change_that_is_none_writes_nothing(place: Place):
    store = place.open()
    account = Account("Ada", 1)
    store.save(account)
    revision = store.revision()
    account._p_changed = True
    store.save(account)
    assert (store.revision(), account._p_changed) == (revision, False)


def test_an_exception_takes_changes_back(place: Place):
    store = place.open()
    tree = OOBTree({1: "one"})
    store.roots["tree"] = tree
    new = Account("Eve")

    def fail():
        with store.transaction():
            tree[2] = new
            tree[1] = "two"
            store.save(new)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert dict(tree) == {1: "one"}
    assert new._p_jar is None
    assert new.owner == "Eve"
    store.roots["new"] = new
    assert place.open().roots["new"].owner == "Eve"


def test_a_failed_save_leaves_new_ones_new(place: Place):
    store = place.open()
    account = Account("Ada")
    account.notes.append(threading.Lock())
    with pytest.raises(CannotPickle, match="notes"):
        store.save(account)
    assert account._p_jar is None
    account.notes.clear()
    assert place.open().load(store.save(account)).notes == []


def test_each_view_has_its_own(place: Place):
    store = place.open()
    tree = OOBTree({1: 1})
    store.roots["tree"] = tree

    def work():
        mine = store.roots["tree"]
        assert mine is not tree
        mine[2] = 2
        store.save(mine)
        with pytest.raises(WrongView):
            tree[3] = 3

    in_thread(work)
    assert 2 not in tree
    store.revision()  # moves the view forward
    assert dict(tree) == {1: 1, 2: 2}


def test_first_committer_wins(place: Place):
    store = place.open()
    account = Account("Ada", 1)
    store.roots["account"] = account

    def work():
        store.roots["account"].amount = 5
        store.save(store.roots["account"])

    def both():
        with store.transaction():
            account.amount = 7
            in_thread(work)

    with pytest.raises(ConflictError) as caught:
        both()
    assert caught.value.ids == (store.list()[0],)
    assert account.amount == 5


def test_the_way_to_a_change_must_stay_as_it_was(place: Place):
    """A leaf that is changed while its tree is split elsewhere: the writer relied on the tree."""
    store = place.open()
    store.roots["tree"] = tree = OOBTree({number: number for number in range(0, 400, 2)})

    def work():
        mine = store.roots["tree"]
        with store.transaction():
            for number in range(-100, 0):
                mine[number] = number  # splits the first leaves

    def both():
        with store.transaction():
            tree[398] = "new"
            in_thread(work)

    with pytest.raises(ConflictError):
        both()
    store.revision()
    tree._check()
    assert sorted(tree) == [*range(-100, 0), *range(0, 400, 2)]


def test_the_past_is_kept(place: Place):
    store = place.open()
    account = Account("Ada", 1)
    id_ = store.save(account)
    account.amount = 2
    store.save(account)
    assert [version.revision for version in store.history(id_)] == [2, 1]
    assert store.history(id_)[0].class_name.endswith(":Account")


def test_the_least_used_become_ghosts(place: Place):
    store = place.open()
    store.roots["all"] = PersistentList([Account("x", number) for number in range(3000)])
    later = place.open()
    everything = later.roots["all"]
    jar = everything._p_jar
    jar.cache.cache_size = 100
    assert sum(account.amount for account in everything) == 3000 * 2999 // 2
    with later.transaction():
        everything[0].amount = -1
    assert jar.cache.cache_non_ghost_count <= 110
    assert everything[2999].amount == 2999
    del everything
    gc.collect()


def test_what_is_gone_is_not_remembered(place: Place):
    store = place.open()
    store.roots["tree"] = IOBTree({number: Account("x", number) for number in range(5000)})
    later = place.open()
    tree = later.roots["tree"]
    jar = tree._p_jar
    jar.cache.cache_size = 50
    for number in range(5000):
        assert tree[number].amount == number
        if number % 200 == 0:
            jar.step_ended()
    gc.collect()
    jar.step_ended()
    assert len(jar._entries) < 2500


def test_a_long_walk_keeps_few_buckets(place: Place):
    store = place.open()
    store.roots["tree"] = IOBTree({number: [number] for number in range(30_000)})
    later = place.open()
    tree = later.roots["tree"]
    jar = tree._p_jar
    jar.cache.cache_size = 100
    most = 0
    for number, (value,) in tree.items():
        assert value == number
        most = max(most, jar.cache.cache_non_ghost_count) if number % 100 == 0 else most
    assert 100 <= most < 600
    assert len(jar._guests) < 2500


def test_objects_of_a_database_of_zodb_are_refused(place: Place):
    class Connection:
        def register(self, obj):
            pass

    account = Account("Ada")
    account._p_jar = Connection()
    with pytest.raises(WrongView, match="ZODB"):
        place.open().save(account)
    with pytest.raises(WrongView, match="ZODB"):
        place.open().save(Person(account))


def test_objects_that_are_made_with_arguments_are_refused(place: Place):
    with pytest.raises(CannotPickle, match="__getnewargs__"):
        place.open().save(Odd())


def test_a_closed_store_loads_nothing(place: Place):
    store = place.open()
    store.roots["tree"] = OOBTree({number: number for number in range(500)})
    later = place.open()
    tree = later.roots["tree"]
    if place.kind == "memory":
        for view in later._views:
            view.close()
    else:
        later.close()
    with pytest.raises(StoreClosed):
        tree[1]


def test_a_length_counts(place: Place):
    store = place.open()
    length = Length(3)
    store.roots["length"] = length
    length.change(4)
    store.save(length)
    assert place.open().roots["length"]() == 7


def test_nothing_of_zodb_is_imported_without_need(tmp_path: Path):
    program = """
import sys, perdure
store = perdure.make_store(sys.argv[1])
class Item(perdure.Persistable): pass
store.load(store.save(Item()))
assert not {"persistent", "BTrees", "zope"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{tmp_path}/a.db"], check=True)


def both(store, mine, others):
    """Run `mine` in a transaction here, and `others` meanwhile in one of another thread."""

    def elsewhere():
        with store.transaction():
            others(store.roots)

    with store.transaction():
        mine(store.roots)
        in_thread(elsewhere)


def test_writers_of_one_bucket_are_merged(place: Place):
    store = place.open()
    store.roots["tree"] = OOBTree({number: Person(str(number)) for number in range(0, 100, 2)})
    store.roots["count"] = Length(10)

    def mine(roots):
        roots["tree"][1] = "mine"
        roots["count"].change(5)

    def others(roots):
        roots["tree"][3] = "theirs"
        del roots["tree"][4]
        roots["count"].change(-1)

    both(store, mine, others)
    for roots in (store.roots, place.open().roots):
        tree = roots["tree"]
        tree._check()
        assert (tree[1], tree[3], tree[2].name, 4 in tree, roots["count"]()) == ("mine", "theirs", "2", False, 14)


def test_writers_of_one_key_are_not_merged(place: Place):
    store = place.open()
    store.roots["tree"] = OOBTree({number: number for number in range(50)})
    with pytest.raises(ConflictError) as caught:
        both(store, lambda roots: roots["tree"].update({7: "mine"}), lambda roots: roots["tree"].update({7: "theirs"}))
    assert type(caught.value.__cause__).__name__ == "BTreesConflictError"
    assert store.roots["tree"][7] == "theirs"


def test_a_savepoint_keeps_guests(place: Place):
    store = place.open()
    tree = OOBTree({number: number for number in range(100)})
    account = Account("Ada", 1)
    store.roots["tree"], store.roots["account"] = tree, account
    new = Account("Eve", 1)
    with store.transaction() as tx:
        tree[1] = "first"
        account.amount = 2
        new_id = store.save(new)
        savepoint = tx.savepoint()
        tree[1] = "second"
        tree[50] = "second"
        tree[99.5] = tree.pop(99)
        account.amount, account.notes = 3, ["x"]
        new.amount = 5
        savepoint.rollback()
        assert (tree[1], tree[50], tree[99], len(tree)) == ("first", 50, 99, 100)
        assert (account.amount, account.notes, new.amount) == (2, [], 1)
        account.owner = "Ida"
    later = place.open()
    assert (later.roots["tree"][1], later.roots["tree"][50], len(later.roots["tree"])) == ("first", 50, 100)
    assert (later.roots["account"].amount, later.roots["account"].owner) == (2, "Ida")
    assert later.load(new_id).amount == 1


def test_what_was_changed_before_a_transaction_outlives_its_abort(place: Place):
    store = place.open()
    account = Account("Ada", 1)
    store.roots["account"] = account
    account.amount = 2

    def fail():
        with store.transaction():
            account.amount = 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert account.amount == 2
    store.save(account)
    assert place.open().roots["account"].amount == 2
