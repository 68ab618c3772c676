"""Undoing commands that raise: change by change where they can be noted, by reading the state again where not."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import heapq
import pickle
import sys
import traceback
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import prevalence
from perdure.pickling.compare import same_state
from perdure.prevalence import command
from perdure.prevalence.system import System
from perdure.prevalence.tracking import changes_of, twin_of


@dataclass
class Entry:
    name: str
    tags: list = field(default_factory=list)

    @property
    def title(self):
        return self.name.title()


class Slots:
    __slots__ = ("left", "right")

    def __init__(self, left):
        self.left = left


class Count:
    def __init__(self, start, step=1):
        self.value = start + step
        self.seen = [start]

    def up(self, by):
        self.value += by
        self.seen.append(self.value)
        return self.value

    @staticmethod
    def twice(number):
        return number * 2

    @functools.cached_property
    def cached(self):
        return self.value


class Book:
    def __init__(self):
        self.entries = {name: Entry(name) for name in "abc"}
        self.order = list("abc")
        self.marks = {"a"}
        self.count = Count(1)
        self.slots = Slots(1)
        self.groups = collections.defaultdict(list)
        self.heap = [3, 5, 9]

    @command
    def everything(self, number, *rest, last=None):
        """All that can be noted; then it raises."""
        self.entries["d"] = Entry("d", tags=[number])
        self.entries["a"].name = "other"
        self.entries["a"].tags += [1, 2]
        self.entries["b"].extra = number
        self.order.append("d")
        self.order[0] = "z"
        self.order[1:2] = ["x", "y"]
        self.order += ["e", "f"]
        self.order.pop()
        self.order.sort()
        self.marks.add("b")
        self.marks.discard("a")
        self.marks |= {"q"}
        self.count.up(number)
        self.count = Count(5, step=2)
        self.slots.right = number
        self.slots.left -= 3
        first, *more = rest or (1, 2)
        self.slots.left, self.entries["c"].name, *self.order[0:1] = number, *"xy", "q"
        self.one = two = self.entries["c"].extra = [number]
        (self.one, _three), two[0:0] = (4, 5), [6]
        self.entries.setdefault("e", Entry("e")).tags.append(first)
        self.entries.update({"f": Entry("f"), "a": Entry("again")})
        self.entries.pop("f")
        del self.entries["b"]
        self.entries["b"] = Entry("b")
        self.new = [name for name in self.entries if name != "c"]
        del self.order[0]
        del self.new
        for name in sorted(self.entries, key=lambda each: each):
            self.inner(name, depth=2)
        total = 0
        total += sum(len(name) for name in self.entries) + Count.twice(number)
        self.total: int = total
        if last is None:
            raise ValueError(f"{number} {prevalence.now():%Y}")
        return prevalence.random(), more

    def inner(self, name, depth):
        if depth:
            self.order.insert(0, name)
            self.inner(name, depth - 1)

    @command
    def checks(self, name):
        if name not in self.entries:
            raise KeyError(name)
        return self.entries[name].name

    @command
    def by_property(self):
        self.order.append(self.entries["a"].title)
        raise ValueError

    @command
    def by_cache(self):
        self.count.cached += 1
        raise ValueError

    @command
    def by_default(self):
        len(self.groups["new"])
        raise ValueError

    @command
    def by_c_code(self):
        heapq.heappush(self.heap, 1)
        raise ValueError

    @command
    def with_block(self):
        with Block():
            self.order.clear()
        raise ValueError

    @command
    def from_outside(self, call):
        call(self)
        raise ValueError


class Block:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Everything:
    def __init__(self, number):
        self.number = number

    def apply(self, book):
        book.order.append(str(self.number))
        book.everything(self.number)


def change_order(book):
    book.order.reverse()


def same(one, other):
    return same_state(one, other, lambda _: None)


def never(self, ticket, sequence, noted):
    raise AssertionError("the state was read again")


@pytest.fixture
def system(opened):
    return opened(Book)


def fails(system, call, error=ValueError):
    before = copy.deepcopy(system.root)
    orders = [*system.root.entries]
    with pytest.raises(error) as caught:
        call()
    assert same(before, system.root)
    assert [*system.root.entries] == orders
    return caught


def test_changes_that_can_be_noted_are_taken_back_one_by_one(system, monkeypatch):
    monkeypatch.setattr(System, "_read_again", never)
    caught = fails(system, lambda: system.root.everything(7, 8, 9))
    assert caught.value.args[0].startswith("7 20")
    fails(system, lambda: system.execute(Everything(3)))
    fails(system, lambda: system.root.checks("x"), KeyError)
    fails(system, lambda: system.root.everything(), TypeError)
    system.root.everything(1, last=2)
    fails(system, lambda: system.root.everything(2))


def test_lines_of_a_traceback_are_those_of_the_source(system):
    with pytest.raises(KeyError) as caught:
        system.root.checks("x")
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.line, last.name) == (__file__, "raise KeyError(name)", "checks")


@pytest.mark.parametrize("name", ["by_property", "by_cache", "by_default", "by_c_code", "with_block"])
def test_what_cannot_be_noted_is_read_again(system, monkeypatch, name):
    again = []
    real = System._read_again

    def reading_again(self, ticket, sequence, noted):
        again.append(sequence)
        return real(self, ticket, sequence, noted)

    monkeypatch.setattr(System, "_read_again", reading_again)
    fails(system, getattr(system.root, name))
    assert again == [1]
    fails(system, lambda: system.root.from_outside(change_order))
    assert len(again) == 1, "a function of one's own is noted too, wherever it is from"


def test_what_is_answered_is_the_same_with_and_without_notes(opened):
    with opened(Book) as system:
        answers = [system.root.everything(number, number + 1, last=1) for number in range(5)]
        state = pickle.dumps(system.root)
        assert len(answers) == 5
    with opened(Book) as system:  # replayed by the function itself
        assert same(pickle.loads(state), system.root)


def test_a_large_dictionary_that_loses_a_key_in_the_middle_is_read_again(opened, monkeypatch):
    with opened(Book) as system:
        for number in range(4):
            system.root.everything(number, last=1)
        monkeypatch.setattr("perdure.prevalence.changes.MOST", 2)
        with pytest.raises(ZeroDivisionError):
            system.execute(Removes("a"))
        assert next(iter(system.root.entries)) == "a"
        monkeypatch.setattr(System, "_read_again", never)
        with pytest.raises(ZeroDivisionError):
            system.execute(Removes([*system.root.entries][-1]))


class Removes:
    def __init__(self, key):
        self.key = key

    def apply(self, book):
        del book.entries[self.key]
        return 1 / 0


class Private:
    def __init__(self):
        self.__hidden = 1

    def hide(self):
        self.__hidden = 2


def text_of_locals(root, name):
    return "{name} {number}".format(number=len(root), name=locals()["name"])


def evaluated(root, name):
    return eval("name") + str(len(globals())) + str(len(root))


def of_its_frame(root):
    return sys._getframe(0).f_code.co_name


def shown(root, name):
    return sorted(vars()), dir(), [*root, name]


@pytest.mark.parametrize("function", [text_of_locals, evaluated, of_its_frame, shown])
def test_what_asks_for_its_own_frame_has_no_twin(function):
    """It would see that of whoever calls for the twin."""
    assert twin_of(function) is None


def test_of_what_there_is_no_twin():
    local = 1

    def closes():
        return local

    assert twin_of(closes) is None
    assert twin_of(Private.hide) is None  # its names are others outside of the class
    assert twin_of(eval("lambda: 1")) is None
    assert twin_of(Book.with_block.__wrapped__) is None
    assert twin_of(Book.checks.__wrapped__) is not None


def test_a_file_that_was_changed_since_gives_no_twin(tmp_path, monkeypatch):
    path = tmp_path / "changing.py"
    path.write_text("def work(root):\n    root.append(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import changing

    path.write_text("def work(root):\n    root.append(2)\n")
    assert twin_of(changing.work) is None


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "pop", "default", "append", "insert", "add", "attribute", "copy"]),
              st.integers(0, 5)),
    max_size=12,
)  # fmt: skip


def work(root, operations):
    for name, number in operations:
        if name == "set":
            root.table[number] = [number]
        elif name == "delete":
            del root.table[number]
        elif name == "pop":
            root.table.pop(number, None)
        elif name == "default":
            root.table.setdefault(number, []).append(number)
        elif name == "append":
            root.rows.append(root.table.get(number))
        elif name == "insert":
            root.rows.insert(number, number)
        elif name == "add":
            root.rows += [number, root.rows]
        elif name == "attribute":
            root.mark = root.table
        else:
            root.table = dict(root.table)
    return len(root.rows)


class Plain:
    def __init__(self):
        self.table = {1: [1], 2: [2], 4: []}
        self.rows = [1, 2]


@given(before=OPERATIONS, operations=OPERATIONS)
def test_whatever_is_done_is_done_alike_and_taken_back(before, operations):
    watched, plain = Plain(), Plain()
    for root in (watched, plain):
        with contextlib.suppress(KeyError):
            work(root, before)
    start, order = copy.deepcopy(watched), [*watched.table]
    noted = changes_of(watched)
    answers = []
    for call in (lambda: twin_of(work)(noted, watched, operations), lambda: work(plain, operations)):
        try:
            answers.append(call())
        except KeyError as error:
            answers.append(error.args)
    assert answers[0] == answers[1]
    assert same(watched, plain)
    assert not noted.lost
    noted.take_back()
    assert same(start, watched)
    assert [*watched.table] == order
