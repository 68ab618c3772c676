"""Commands: what is journaled and carried out, what they may ask of the world, what happens if they raise."""

from __future__ import annotations

import copy
import datetime
import pickle
import sys
import threading
import time

import pytest
import tasks
from tasks import NoCommand, Pair, Rename, Slotted, Tasks

import perdure
from perdure import prevalence
from perdure.clock import FixedClock
from perdure.errors import (
    CannotLoad,
    CannotPickle,
    ClassNotFound,
    ClockWentBack,
    CommandTimeout,
    InvalidArgument,
    NewerFormat,
    PrevalenceError,
    ReadOnly,
    ReplayDiffers,
    StoreBusy,
    StoreClosed,
    SystemNotFound,
)
from perdure.pickling.declared import DECLARED
from perdure.prevalence import commands, opening
from perdure.prevalence.pickles import is_plain


def state(system):
    return pickle.dumps((system.root.open, system.root.done))


def test_commands_are_there_after_a_new_start(opened):
    with opened(Tasks) as system:
        assert system.root.add("feed the fish") == 1
        assert system.root.add("water the plants", place="kitchen") == 2
        assert system.execute(Tasks.finish, "feed the fish") is None
        assert system.sequence == 3
        before = state(system)
    with opened(Tasks) as system:
        assert system.sequence == 3
        assert state(system) == before
        assert system.root.open["water the plants"][1] == {"place": "kitchen"}


def test_reading_is_plain_python(opened):
    system = opened(Tasks)
    assert type(system.root) is Tasks
    assert type(system.root.open) is dict
    assert system.root.count() == 0
    assert system.sequence == 0


def test_objects_are_commands_and_get_nothing_back_from_their_copy(opened):
    with opened(Tasks) as system:
        system.root.add("a")
        given = Rename("a", "b")
        answer = system.execute(given)
        assert answer is not given
        assert (answer.log, given.log) == (["applied"], [])
        system.execute(Pair(["x", "y"]))
        before = state(system)
    assert state(opened(Tasks)) == before


def test_a_command_that_holds_a_part_of_the_system_gets_a_copy_of_it(opened):
    system = opened(Tasks)
    mine = ["mine"]
    kept = system.root.keep(mine)
    assert kept == mine
    assert kept is not mine
    kept = system.root.keep(system.root.done)
    assert kept is not system.root.done


def test_commands_inside_commands_are_part_of_them(opened):
    with opened(Tasks) as system:
        system.root.add_all("a", "b")
        assert system.sequence == 1
    assert sorted(opened(Tasks).root.open) == ["a", "b"]


def test_what_commands_ask_of_the_world_comes_back(opened):
    with opened(Tasks) as system:
        drawn = [system.root.draw() for _ in range(3)]
        assert len({found[1] for found in drawn}) == 3
        assert len({found[0] for found in drawn}) == 3
        assert drawn[0][1].version == 4
        system.root.add("now")
        then = system.root.open["now"][0]
        assert abs((datetime.datetime.now(datetime.UTC) - then).total_seconds()) < 60
    with opened(Tasks) as system:
        assert system.root.done == drawn
        assert system.root.open["now"][0] == then
        assert system.root.draw() not in drawn


def test_outside_of_commands_they_are_the_ordinary_ones():
    assert prevalence.random() != prevalence.random()
    assert prevalence.uuid4() != prevalence.uuid4()
    assert prevalence.now().tzinfo is datetime.UTC
    assert prevalence.random_source().random() < 1


@pytest.mark.parametrize("root", [Tasks])
@pytest.mark.parametrize("food_taster", [False, True])
def test_a_command_that_raises_leaves_nothing(opened, root, food_taster):
    with opened(root, food_taster=food_taster) as system:
        same = system.root
        system.root.add("a")
        before = state(system)
        with pytest.raises(KeyError):
            system.root.finish("b")  # appends, and then finds no such task
        assert state(system) == before
        with pytest.raises(ValueError, match="needs a text"):
            system.root.add_all("c", "d", "")
        assert state(system) == before
        with pytest.raises(TypeError):
            system.root.add()
        assert system.root is same
        assert system.sequence == (1 if food_taster else 4)
        system.root.add("e")
        after = state(system)
        assert list(system.root.open) == ["a", "e"]
    with opened(root) as system:
        assert state(system) == after
        assert system.said == []


def test_a_root_with_slots_is_put_back_too(opened):
    with opened(Slotted) as system:
        with pytest.raises(ValueError, match="-1"):
            system.root.both(-1)
        assert system.root.left == []
        assert not hasattr(system.root, "right")
        system.root.both(1)
        with pytest.raises(ValueError, match="-2"):
            system.root.both(-2)
        assert (system.root.left, system.root.right) == ([1], 1)


def test_a_system_may_be_a_plain_dictionary(opened):
    with opened(dict) as system:
        system.execute(tasks_put("a", 1))
        with pytest.raises(ZeroDivisionError):
            system.execute(tasks_put("b", 0))
        assert system.root == {"a": 1.0}
    assert opened(dict).root == {"a": 1.0}


class tasks_put:
    def __init__(self, key, value):
        self.key, self.value = key, value

    def apply(self, root):
        root[self.key] = None
        root[self.key] = 1 / self.value


def test_a_command_that_cannot_be_pickled_is_not_journaled(opened):
    with opened(Tasks) as system:
        with pytest.raises(CannotPickle, match=r"Tasks.add → \[0\]: cannot pickle a lambda") as caught:
            system.root.add(lambda: None)
        assert caught.value.path == "Tasks.add → [0]"
        with pytest.raises(CannotLoad, match="can be pickled, but not loaded"):
            system.root.keep(Unloadable())
        assert system.sequence == 0
        local = type("Local", (), {"apply": lambda self, root: None, "__module__": __name__})()
        with pytest.raises(CannotPickle, match=r"has no name|not what is found"):
            system.execute(local)
        with pytest.raises(PrevalenceError, match="NoCommand is no command"):
            system.execute(NoCommand())
        assert system.sequence == 0
    assert opened(Tasks).sequence == 0


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


def test_a_command_of_a_closed_system_is_refused_and_changes_nothing(opened):
    system = opened(Tasks)
    root = system.root
    system.close()
    system.close()
    with pytest.raises(StoreClosed):
        root.add("a")
    assert root.open == {}
    assert Tasks().add("plain") == 1  # an object of no system


def test_what_a_command_must_not_do_is_refused(opened):
    one, two = opened(Tasks), opened(Tasks, place="other")
    with pytest.raises(PrevalenceError, match="of another system was called by a command"):
        one.execute(Calls(two.root.add))
    for call, name in ((one.snapshot, "snapshot"), (one.close, "close")):
        Calls.nested = call
        with pytest.raises(PrevalenceError, match=name):
            one.execute(CallsNested())
    Calls.nested = lambda: one.execute(Rename("a", "b"))
    with pytest.raises(PrevalenceError, match="execute"):
        one.execute(CallsNested())
    assert (one.root.open, two.root.open) == ({}, {})


class Calls:
    nested = None

    def __init__(self, method):
        Calls.nested = method

    def apply(self, root):
        Calls.nested("x")


class CallsNested:
    def apply(self, root):
        Calls.nested()


def test_one_process_writes_and_others_look(opened):
    system = opened(Tasks)
    system.root.add("a")
    with pytest.raises(StoreBusy, match=r"open for writing in another place \(process \d+\)"):
        opened(Tasks)
    with opened(read_only=True) as follower:
        assert list(follower.root.open) == ["a"]
        with pytest.raises(ReadOnly, match="opened for reading only"):
            follower.root.add("b")
        with pytest.raises(ReadOnly):
            follower.execute(Rename("a", "b"))
        root = follower.root
        system.root.add("b")
        with pytest.raises(KeyError):
            system.root.finish("c")
        system.root.add("d")
        assert follower.refresh() == 3
        assert follower.refresh() == 0
        assert list(root.open) == ["a", "b", "d"]
        assert root.done == []
        with pytest.raises(KeyError):
            system.root.finish("c")
        assert follower.refresh() == 1
        assert follower.root is root
        assert root.done == []


def test_what_is_not_there_is_not_made_by_looking(opened, tmp_path):
    with pytest.raises(SystemNotFound):
        opened(read_only=True)
    with pytest.raises(SystemNotFound):
        opened()
    assert not (tmp_path / "system" / "system").exists()


def test_a_root_of_another_class_is_told(opened):
    opened(Tasks).close()
    with pytest.raises(PrevalenceError, match="is a Tasks, not a Slotted"):
        opened(Slotted)
    assert opened().root.open == {}


def test_recovering_to_a_command_or_a_time(opened):
    clock = FixedClock(1000.0)
    with opened(Tasks, clock=clock) as system:
        for text in "abc":
            system.root.add(text)
            clock.advance(10)
        with pytest.raises(KeyError):
            system.root.finish("x")
    for until, found in ((0, []), (2, ["a", "b"]), (3, ["a", "b", "c"]), (4, ["a", "b", "c"]), (99, ["a", "b", "c"])):
        with opened(until=until) as then:
            assert list(then.root.open) == found
            with pytest.raises(PrevalenceError, match="as it was once"):
                then.refresh()
    moment = datetime.datetime.fromtimestamp(1015, datetime.UTC)
    with opened(until=moment) as then:
        assert list(then.root.open) == ["a", "b"]
        assert then.sequence == 2


def test_a_clock_that_goes_back_stands_still_or_is_an_error(opened):
    clock = FixedClock(1000.0)
    with opened(Tasks, clock=clock, clock_tolerance=5) as system:
        system.root.add("a")
        clock.advance(-3)
        system.root.add("b")
        assert system.root.open["b"][0] == system.root.open["a"][0]
        clock.advance(-3)
        with pytest.raises(ClockWentBack, match="6 seconds behind"):
            system.root.add("c")
        assert system.sequence == 2
    with opened(Tasks, clock=clock) as system:
        system.root.add("c")
        assert system.root.open["c"][0].timestamp() == 1000.0


def test_a_command_that_never_ends_is_cut_off(opened):
    with opened(Tasks, time_limit=0.2) as system:
        system.root.spin(0.01)
        with pytest.raises(CommandTimeout, match=r"Command 2 \(Tasks.spin\) did not end within 0.2 seconds") as caught:
            system.root.spin(60)
        assert caught.value.sequence == 2
        assert system.root.done == ["spinning"]
        system.root.add("a")
    with opened(Tasks) as system:
        assert system.root.done == ["spinning"]


def leave(tasks):
    tasks.done.append("leaves")
    raise SystemExit(3)


class Leaves:
    def apply(self, tasks):
        leave(tasks)


@pytest.mark.parametrize("food_taster", [False, True])
def test_a_taster_does_not_wait_longer_and_outcomes_are_the_same(opened, food_taster):
    with opened(Tasks, time_limit=0.2, food_taster=food_taster) as system:
        with pytest.raises(CommandTimeout, match=r"Tasks\.spin"):
            system.root.spin(60)
        with pytest.raises(SystemExit):
            system.execute(Leaves())
        assert system.root.done == []
        system.root.add("a")
        assert system.sequence == (1 if food_taster else 3)
    with opened(Tasks) as system:
        assert (system.root.done, list(system.root.open)) == ([], ["a"])


class Stubborn:
    """Commands that stop whatever is to stop them."""

    def __init__(self):
        self.rows = []

    @prevalence.command
    def once(self, seconds):
        self.rows.append(seconds)
        try:
            spin(seconds)
        except BaseException:  # noqa: BLE001
            self.rows.append("stopped")

    @prevalence.command
    def twice(self, seconds):
        self.rows.append(seconds)
        for _ in range(2):
            try:
                spin(seconds)
            except BaseException:  # noqa: BLE001
                self.rows.append("stopped")
        spin(seconds)


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_command_that_stops_what_cuts_it_off_is_cut_off_again_and_undone(opened):
    with opened(Stubborn, time_limit=0.1) as system:
        for call in (system.root.once, system.root.twice):
            began = time.monotonic()
            with pytest.raises(CommandTimeout):
                call(30)
            assert time.monotonic() - began < 20
            assert system.root.rows == []
        system.root.once(0)
    with opened(Stubborn) as system:
        assert system.root.rows == [0]


@pytest.mark.parametrize("method", ["once", "twice"])
def test_a_debugger_can_be_used_after_a_command_was_cut_off(opened, method):
    """CPython 3.11 goes round for ever at the next call that is traced if an exception was set and taken back."""
    with opened(Stubborn, time_limit=0.1) as system, pytest.raises(CommandTimeout):
        getattr(system.root, method)(30)
    calls = []
    before = sys.gettrace()
    sys.settrace(lambda *_: calls.append(1))
    try:
        spin(0)
    finally:
        sys.settrace(before)
    assert calls


def test_arguments_of_an_older_version_are_upgraded(opened, monkeypatch):
    kind = commands.kind_of_method(Tasks.shout)
    monkeypatch.setattr(kind, "version", 1)
    with opened(Tasks) as system:
        system.execute(Tasks.shout, "old")
    monkeypatch.setattr(kind, "version", 2)
    with opened(Tasks) as system:
        assert system.root.done == ["OLD"]
        system.execute(Tasks.shout, "new")
    monkeypatch.setattr(kind, "version", 1)
    with pytest.raises(NewerFormat, match=r"has version 2 of tasks:Tasks.shout.*command 2 in .*byte"):
        opened(Tasks)


def test_a_command_whose_class_is_gone_is_told_with_its_place(opened, monkeypatch):
    with opened(Tasks) as system:
        system.root.add("a")
        system.execute(Rename("a", "b"))
    monkeypatch.delattr(tasks, "Rename")
    with pytest.raises(
        ClassNotFound, match=r"tasks:Rename cannot be found.*command 2 in .*journal-0+1, at byte"
    ) as caught:
        opened(Tasks)
    assert caught.value.sequence == 2
    assert opened(until=1).root.count() == 1


def test_classes_that_were_renamed_are_found(opened, monkeypatch):
    with opened(Tasks) as system:
        system.root.add("a")
        system.execute(Rename("a", "b"))
    monkeypatch.setattr(tasks, "ToDo", Tasks, raising=False)
    monkeypatch.setattr(tasks, "Moved", Rename, raising=False)
    monkeypatch.delattr(tasks, "Tasks")
    monkeypatch.delattr(tasks, "Rename")
    with pytest.raises(ClassNotFound):
        opened()
    before = {name: copy.copy(getattr(DECLARED, name)) for name in vars(DECLARED)}
    try:
        perdure.rename("tasks:Tasks", "tasks:ToDo")
        perdure.rename("tasks:Rename", "tasks:Moved")
        assert list(opened().root.open) == ["b"]
    finally:
        for name, value in before.items():
            setattr(DECLARED, name, value)


def test_a_command_that_raises_only_on_replay_is_told(opened, monkeypatch):
    with opened(Tasks) as system:
        system.root.add("a")
        system.root.finish("a")
        system.root.add("b")
    monkeypatch.setattr(commands.kind_of_method(Tasks.finish), "target", refuses)
    with pytest.raises(ReplayDiffers, match=r"Command 2 \(Tasks.finish\) raises OSError now: no") as caught:
        opened(Tasks)
    assert caught.value.sequence == 2


def refuses(self, text):
    raise OSError("no")


def test_a_forked_process_has_no_system(opened):
    import os

    system = opened(Tasks)
    system.root.add("a")
    child = os.fork()
    if not child:
        status = 1
        try:
            system.root.add("b")
        except PrevalenceError as error:
            status = 0 if "of which this one is a fork" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    system.root.add("c")
    assert list(system.root.open) == ["a", "c"]


def test_threads_share_syncs_and_lose_nothing(opened):
    with opened(Tasks) as system:

        def work(name):
            for number in range(50):
                system.root.add(f"{name}-{number}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (system.sequence, system.root.count()) == (400, 400)
        before = state(system)
    assert state(opened(Tasks)) == before


def test_one_of_a_group_that_raises_harms_no_other(opened):
    with opened(Tasks) as system:
        errors = []

        def work(name):
            for number in range(20):
                try:
                    system.root.add_all(f"{name}-{number}", "" if number % 5 == 0 else "x")
                except ValueError:
                    errors.append(number)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 16
        assert system.root.count() == 4 * 16 + 1
        before = state(system)
    assert state(opened(Tasks)) == before


@pytest.mark.parametrize("durability", ["none", prevalence.every(5)])
def test_what_is_less_durable_is_there_after_a_proper_end(opened, durability):
    with opened(Tasks, durability=durability) as system:
        for number in range(100):
            system.root.add(str(number))
        system.sync()
    assert opened(Tasks).root.count() == 100


def test_settings_that_are_none(opened):
    wrong = [
        {"durability": "often"}, {"keep": 0}, {"keep": "all"}, {"trust": "some"}, {"time_limit": 0},
        {"time_limit": "long"}, {"snapshot_commands": -1}, {"snapshot_bytes": "many"}, {"snapshot_recovery": 0.0},
        {"clock_tolerance": -1}, {"code": "kept"}, {"serve": 7007}, {"serve": "127.0.0.1:0", "patience": "much"},
        {"until": "yesterday"}, {"until": -1}, {"until": True}, {"durable": "always"},
    ]  # fmt: skip
    for settings in wrong:
        with pytest.raises(InvalidArgument):
            opened(Tasks, **settings)
    with pytest.raises(InvalidArgument):
        prevalence.every(0)


@pytest.mark.parametrize("place", ["sqlite:///tasks.db", "postgresql://host/tasks", b"tasks", None, 5])
def test_what_is_no_directory_is_made_none(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument):
        prevalence.open(place, Tasks)
    with pytest.raises(InvalidArgument):
        prevalence.standby(place, of="127.0.0.1:1")
    with pytest.raises(InvalidArgument):
        prevalence.standby("copy", of=place)
    assert [*tmp_path.iterdir()] == []


def test_a_store_has_no_standby(tmp_path):
    store = perdure.make_store("memory:")
    for places in ((store, "writer"), (tmp_path / "copy", store)):
        with pytest.raises(InvalidArgument, match="Standbys are for systems in directories"):
            prevalence.standby(*places)


def test_a_key_of_its_own_is_made_with_it(tmp_path, own_environment):
    with prevalence.open(tmp_path / "system", Tasks) as system:
        system.root.add("a")
    keys = list((own_environment / "config_home" / "perdure" / "keys").glob("*.key"))
    assert len(keys) == 1
    with prevalence.open(tmp_path / "system", Tasks) as system:
        assert system.root.count() == 1
    assert opening.KeyRing().names() == [keys[0].stem]


def test_arguments_that_never_change_are_their_own_copy(opened):
    """What comes out of a replay is the same, whoever held the arguments."""

    class Text(str):
        __slots__ = ()

    assert is_plain(("text", 1, 2.5, True, None, b"bytes"))
    assert is_plain(())
    for other in (([],), ((),), (Text("text"),), ["text"], "text", (1, "a", {})):
        assert not is_plain(other)
    text = "shared " * 10
    system = opened(Tasks)
    for _ in range(2):
        system.root.keep(text)
        system.root.add(text)
    mutable = [text]
    system.root.keep(mutable)
    mutable.append("changed afterwards")
    system.check_replay()
    state = dict(system.root.open), list(system.root.done)
    system.close()
    again = opened(Tasks)
    assert (again.root.open, again.root.done) == state
    assert again.root.done == [text, text, [text]]
