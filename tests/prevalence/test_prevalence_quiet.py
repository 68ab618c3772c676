"""What looks as if it only read, and changes something: it must be noted, or known to be lost."""

from __future__ import annotations

import collections
import copy
import datetime
import functools
import itertools
import operator
import random
from dataclasses import dataclass, field

import pytest

from perdure import PerdureError, prevalence
from perdure.prevalence import command
from perdure.prevalence.tracking import changes_of, twin_of


class Half:
    __slots__ = ("left",)


class Whole(Half):
    """Has a slot, and a dictionary."""

    def __init__(self):
        self.left, self.right = 1, 2

    @property
    def both(self):
        return self.left, self.right

    @both.deleter
    def both(self):
        self.right = None


class Member:
    """Is equal to its copies."""

    def __init__(self, name, place):
        self.name, self.place = name, place

    def __eq__(self, other):
        return self.name == other.name

    def __hash__(self):
        return hash(self.name)


class Child:
    """Tells its parent of itself, by a property."""

    def __init__(self, parent):
        self.parent = parent

    @property
    def parent(self):
        return self._parent

    @parent.setter
    def parent(self, parent):
        self._parent = parent
        parent.append(self)


class Twins(Child):
    """The same, where several are set at once."""

    def __init__(self, parent):
        self.name, self.parent = "twins", parent


class Unpacking:
    def __init__(self, three):
        self.left, self.middle, self.right = three


class Pair:
    def __init__(self, left, right):
        self.left, self.right = left, [right]


class Telling:
    def __setattr__(self, name, value):
        value.append(name)


class Told(Telling):
    def __init__(self, parent):
        self.parent = parent


@dataclass
class ToldData(Telling):
    parent: list


@dataclass
class Base:
    number: int = 0


class Derived(Base):
    """Has the parameters of a dataclass, and an `__init__` of its own of which no twin is made."""

    def __init__(self, parent):
        with Block():
            parent.append(1)


class Block:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Sets:
    """A descriptor that can only be set."""

    def __set__(self, obj, value):
        value.append(obj)


class Described:
    parent = Sets()

    def __init__(self, parent):
        self.parent = parent


class Counting:
    """Counts how often it was looked at."""

    def __init__(self):
        self.looks = 0

    def look(self, *_):
        self.looks += 1
        return self.looks

    __len__ = __add__ = __radd__ = __gt__ = __call__ = __neg__ = __contains__ = __eq__ = look
    __hash__ = None

    def __bool__(self):
        return self.look() > 0

    def __iter__(self):
        return iter(range(self.look()))

    def __str__(self):
        return str(self.look())


class Quiet:
    """Special methods that only read."""

    def __init__(self, number):
        self.number, self.parts = number, [number]

    def __eq__(self, other):
        return isinstance(other, Quiet) and self.number == other.number

    def __hash__(self):
        return hash(self.number)

    def __lt__(self, other):
        return self.number < other.number

    def __len__(self):
        return len(self.parts)


@dataclass(order=True)
class Data:
    number: int
    tags: list = field(default_factory=list)


class Writes:
    def __init__(self, rows):
        self.rows = rows

    def write(self, text):
        self.rows.append(text)


class Many:
    def __init__(self):
        self.whole, self.members, self.numbers = Whole(), {Member("a", "here")}, {1, 2}
        self.rows, self.seen, self.moved = [3, 1, 2], [], iter([4, 5, 6])
        self.counting, self.source, self.numbered = Counting(), random.Random(1), itertools.count()
        self.quiet, self.data = [Quiet(2), Quiet(1)], [Data(2), Data(1)]

    def see(self, row):
        self.seen.append(row)
        return row


def slot_is_deleted(root):
    del root.whole.left


def property_is_deleted(root):
    del root.whole.both


def equal_one_leaves(root):
    root.members.discard(Member("a", "there"))


def equal_one_is_removed(root):
    root.members.remove(Member("a", "there"))


def true_leaves(root):
    root.numbers.discard(True)


def child(root):
    Child(root.rows)


def twins(root):
    Twins(root.rows)


def unpacking(root):
    Unpacking(root.moved)


def told(root):
    Told(root.rows)


def told_data(root):
    ToldData(root.rows)


def derived(root):
    Derived(root.rows)


def described(root):
    Described(root.rows)


def mapped(root):
    list(map(root.rows.append, [1]))


def mapped_method(root):
    list(map(root.see, [1]))


def filtered(root):
    list(filter(root.see, [1]))


def sorted_by(root):
    sorted(root.rows, key=root.see)


def sorts_by(root):
    root.rows.sort(key=root.see)


def least_by(root):
    min(root.rows, key=root.see)


def called_until(root):
    list(iter(root.rows.pop, 3))


def descriptor_is_mapped(root):
    list(map(list.clear, [root.rows]))


def partial_is_mapped(root):
    list(map(functools.partial(root.rows.append), [1]))


def instance_is_mapped(root):
    list(map(root.counting, [1]))


def class_is_mapped(root):
    list(map(Child, [root.rows]))


def printed_to(root):
    print("x", file=Writes(root.rows))


def counter_goes_on(root):
    root.last = next(root.numbered)


def iterator_goes_on(root):
    next(root.moved)


def iterator_is_looped_over(root):
    for _ in root.moved:
        break


def iterator_in_a_comprehension(root):
    [row for row in root.moved]  # noqa: C416


def iterator_is_unpacked(root):
    _, *_rest = root.moved


def iterator_is_starred(root):
    max(*root.moved)


def iterator_is_shown(root):
    [*root.moved]


def iterator_is_looked_into(root):
    return 5 in root.moved


def iterator_is_listed(root):
    list(root.moved)


def iterator_is_zipped(root):
    list(zip(root.rows, root.numbered, strict=False))


def iterator_is_joined(root):
    ",".join(map(str, root.moved))


def iterator_extends(root):
    root.rows.extend(root.moved)


def iterator_is_added(root):
    root.rows += root.moved


def source_is_asked(root):
    root.source.random()


def source_chooses(root):
    root.source.choice(root.rows)


def looked_at(root):
    len(root.counting)


def added(root):
    return root.counting + 1


def added_to(root):
    total = 1
    total += root.counting
    return total


def compared(root):
    return root.counting == 1


def ordered(root):
    return root.counting > 3


def is_tested(root):
    if root.counting:
        pass


def is_tested_shortly(root):
    return root.counting or 1


def is_tested_in_between(root):
    return 1 if root.counting else 2


def is_tested_in_a_loop(root):
    while root.counting:
        break


def is_tested_in_a_comprehension(root):
    return [row for row in root.rows if root.counting]


def negated(root):
    return not root.counting


def turned(root):
    return -root.counting


def written(root):
    return f"{root.counting}"


def told_as_text(root):
    return str(root.counting)


def looked_into(root):
    return 3 in root.counting


def looped_over(root):
    for _ in root.counting:
        pass


def spread(root):
    return [*root.counting]


CHANGE = [
    slot_is_deleted, property_is_deleted, equal_one_leaves, equal_one_is_removed, true_leaves, child, twins, unpacking,
    told, told_data,
    derived, described, mapped, mapped_method, filtered, sorted_by, sorts_by, least_by, called_until,
    descriptor_is_mapped, partial_is_mapped, instance_is_mapped, class_is_mapped, printed_to, counter_goes_on,
    iterator_goes_on, iterator_is_looped_over, iterator_in_a_comprehension, iterator_is_unpacked, iterator_is_starred,
    iterator_is_shown, iterator_is_looked_into, iterator_is_listed, iterator_is_zipped, iterator_is_joined,
    iterator_extends, iterator_is_added, source_is_asked, source_chooses, looked_at, added, added_to, compared, ordered,
    is_tested, is_tested_shortly, is_tested_in_between, is_tested_in_a_loop, is_tested_in_a_comprehension, negated,
    turned,
    written, told_as_text, looked_into, looped_over, spread,
]  # fmt: skip


def shown(root):
    """All of it that can differ, with the very objects that are in sets."""
    source, moved, numbered = root.source.getstate(), list(copy.copy(root.moved)), repr(root.numbered)
    members = [(id(each), each.place) for each in root.members], {(type(each), each) for each in root.numbers}
    whole = getattr(root.whole, "left", "gone"), vars(root.whole)
    rest = [root.rows, root.seen, root.counting.looks, [each.number for each in root.quiet]]
    return repr((source, moved, numbered, members, whole, rest, sorted(vars(root))))


@pytest.mark.parametrize("change", CHANGE, ids=lambda change: change.__name__)
def test_nothing_of_it_is_left(change):
    plain, root = Many(), Many()
    before, untouched = shown(root), shown(plain)
    change(plain)
    assert shown(plain) != untouched, "it changes something"
    noted = changes_of(root)
    twin_of(change)(noted, root)
    if not noted.lost:
        noted.take_back()
        assert shown(root) == before


def what_is_usual(root):
    total = 0
    for place, row in enumerate(root.rows):
        if not row or (row > 1 and place != 7) or row in root.numbers:
            total += row * 2 - place
    for one, other in zip(root.rows, reversed(root.rows), strict=True):
        total += one + other
    best = max(root.quiet), sorted(root.data, key=lambda each: each.number), min(root.quiet, key=number_of)
    pairs = dict(zip("ab", root.rows, strict=False)) | dict.fromkeys("xy", total)
    texts = ", ".join(f"{key}={value!r:>3}" for key, value in pairs.items() if value is not None)
    root.seen.append(best if root.quiet[0] == root.quiet[1] else texts.upper().split(","))
    root.seen += [*root.rows, *map(str, root.rows), next(iter(root.rows)), next((row for row in root.rows if row), 0)]
    root.seen.append(sorted(root.rows, key=operator.itemgetter(0)) if not root.rows else bool(len(root.quiet[0])))
    root.seen.append(datetime.datetime.fromisoformat("2020-01-01").isoformat() + bytes.fromhex("41").decode())
    root.seen.append([*filter(None, {**pairs}.values()), int.from_bytes(b"a", "big"), Data(3).number])
    del root.whole.left
    return total if root.data[0] != root.data[1] and root.rows else prevalence.random_source().choice(root.rows)


def number_of(quiet):
    return quiet.number


@functools.total_ordering
class Total:
    """Has methods that are called otherwise than their code."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    def __lt__(self, other):
        return self.number < other.number

    __hash__ = None


def compares(root):
    root.seen.append(root.first >= root.second)


def test_classes_with_generated_methods_are_compared():
    root = Many()
    root.first, root.second = Total(2), Total(1)
    noted = changes_of(root)
    twin_of(compares)(noted, root)
    assert root.seen == [True]
    assert not noted.lost


def makes_a_pair(root):
    root.seen.append(Pair(1, root.rows))


def test_a_constructor_that_sets_several_attributes_at_once_costs_no_notes():
    root = Many()
    noted = changes_of(root)
    twin_of(makes_a_pair)(noted, root)
    assert (root.seen[0].left, root.seen[0].right) == (1, [root.rows])
    assert not noted.lost
    assert len(noted.log) == 1  # of the list
    noted.take_back()
    assert root.seen == []


def test_what_is_usual_is_noted():
    root = Many()
    before, noted = shown(root), changes_of(root)
    assert twin_of(what_is_usual)(noted, root) == what_is_usual(Many())
    assert not noted.lost
    noted.take_back()
    assert shown(root) == before


# -- commands that would work later, and roots ------------------------------------------------------------------


class Later:
    def __init__(self):
        self.rows = []

    @command
    def gives_a_generator(self):
        self.rows.append(0)
        return (self.rows.append(number) for number in (1, 2))

    @command
    def gives_a_map(self):
        return map(self.rows.append, [1])

    @command
    def add(self, row):
        self.rows.append(row)


class Promises:
    async def apply(self, root):
        root.rows.append(1)


def test_what_works_only_when_it_is_asked_is_refused(opened, monkeypatch):
    with opened(Later) as system:
        for call in (system.root.gives_a_generator, system.root.gives_a_map, lambda: system.execute(Promises())):
            with pytest.raises(PerdureError, match="does its work only when it is asked"):
                call()
        system.root.add(5)
        assert system.root.rows == [5]
        with pytest.raises(PerdureError, match="gives_a_generator gives a generator"):
            system.root.gives_a_generator()
        monkeypatch.setattr(system, "_tell_raised", lambda: None)  # as if it had been killed
    with pytest.warns(RuntimeWarning, match="raised PrevalenceError again"), opened(Later) as system:
        assert system.root.rows == [5]


def generator(self):
    yield


async def asynchronous(self):
    pass


@pytest.mark.parametrize("made", [generator, asynchronous, classmethod(len), staticmethod(len), property(len), len, 5])
def test_what_can_be_no_command_is_refused_where_it_is_defined(made):
    with pytest.raises(prevalence.commands.InvalidArgument, match=r"@command is for|after the command"):
        command(made)


class Ordered(collections.OrderedDict):
    @command
    def turn(self, error=None):
        self["b"] = self.pop("a", 1)
        self.move_to_end("b", last=False)
        if error:
            raise error


class Queue(collections.deque):
    @command
    def turn(self, error=None):
        self.extend([1, 2])
        self.rotate()
        if error:
            raise error


class Bytes(bytearray):
    @command
    def turn(self, error=None):
        self.extend(b"12")
        if error:
            raise error


class Chance(random.Random):
    @command
    def turn(self, error=None):
        self.random()
        if error:
            raise error


class Groups(collections.defaultdict):
    @command
    def turn(self, error=None):
        self["a"] = self.default_factory
        self.default_factory = dict
        if error:
            raise error


@pytest.mark.parametrize("root", [Ordered, Queue, Bytes, Chance, Groups])
def test_roots_of_c_code_are_put_back(opened, root):
    with opened(root) as system:
        system.root.turn()
        before = system.root.__reduce_ex__(5)[1:3], [*system.root] if root is not Chance else 0
        held = copy.deepcopy(before) if root is not Ordered else (before[0], [*system.root.items()])
        with pytest.raises(ValueError, match="undone"):
            system.root.turn(ValueError("undone"))
        after = system.root.__reduce_ex__(5)[1:3], [*system.root] if root is not Chance else 0
        assert (after if root is not Ordered else (after[0], [*system.root.items()])) == held


@pytest.mark.parametrize("root", [lambda: ([],), lambda: ValueError(1), object, lambda: 5])
def test_roots_that_cannot_be_put_back_are_refused(opened, tmp_path, root):
    with pytest.raises(PerdureError, match="cannot be the root of a system"):
        opened(root)
    with opened(Later) as system:
        assert system.root.rows == []


class Unloadable(dict):
    def __reduce__(self):
        return Unloadable, (1, 2, 3)


def test_a_root_that_cannot_be_loaded_again_makes_no_system(opened):
    with pytest.raises(PerdureError, match="cannot be loaded"):
        opened(Unloadable)
    with opened(Later) as system:
        assert system.root.rows == []
