"""Ctrl-C after any step of perdure's own code: nobody waits for ever, and what is opened again is right."""

from __future__ import annotations

import linecache
import sys
import threading

import pytest

from perdure import PerdureError
from perdure.prevalence import command
from perdure.prevalence.turns import Ticket, Turns


class Block:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Both:
    """Two things that always fit together."""

    def __init__(self):
        self.names, self.table = [], {}

    @command
    def add(self, name):
        self.names.append(name)
        self.table[name] = len(self.names)

    @command
    def fail(self, name):
        self.add(name)
        raise ValueError(name)

    @command
    def fail_unnoted(self, name):
        with Block():
            self.add(name)
        raise ValueError(name)


class Interrupt:
    """Raises `KeyboardInterrupt` at the step of that number: where a function of perdure's is entered or left.

    Given a function, each of its lines is a step, but for the end of a `with`: a signal does not come before that.
    """

    def __init__(self, step, within=None):
        self.left, self.within, self.begun = step, within, set()

    def __enter__(self):
        self.usual = sys.gettrace()
        sys.settrace(self.enter)
        return self

    def __exit__(self, *_):
        sys.settrace(self.usual)

    def enter(self, frame, _event, _value):
        code = frame.f_code
        if self.within is not None:
            return self.line if code is self.within.__code__ else None
        if "/perdure/" not in code.co_filename.replace("\\", "/"):
            return None
        frame.f_trace_lines = False
        self.count()
        return self.leave

    def leave(self, _frame, event, _value):
        if event == "return":
            self.count()
        return self.leave

    def line(self, frame, event, _value):
        if event == "line":
            at = frame.f_lineno
            if not (at in self.begun and linecache.getline(frame.f_code.co_filename, at).lstrip().startswith("with ")):
                self.begun.add(at)
                self.count()
        return self.line

    def count(self):
        self.left -= 1
        if self.left == 0:
            sys.settrace(self.usual)
            raise KeyboardInterrupt


def interrupted(opened, place, name, step):
    """Whether the step was reached. A command is cut off there, the next one is or is not taken; all fits together."""
    system = opened(Both, place=place, file_bytes=100)  # each file has few commands
    system.root.add("first")
    cut = Interrupt(step)
    try:
        with cut:
            getattr(system.root, name)("second")
    except (KeyboardInterrupt, ValueError):
        pass
    following = []

    def add_more():
        try:
            system.root.add("third")
        except PerdureError as error:
            following.append(error)

    thread = threading.Thread(target=add_more, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for ever"
    live = [*system.root.names]
    system.close()
    with opened(place=place) as again:
        names = again.root.names
        assert again.root.table == {each: number for number, each in enumerate(names, 1)}
        if following:
            assert "interrupted" in str(following[0])
            assert names in (["first"], ["first", "second"])
        else:
            assert names == live
            assert names in (["first", "third"], ["first", "second", "third"])
        assert name == "add" or "second" not in names
        again.root.add("fourth")
    return cut.left <= 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file left to the collector
@pytest.mark.parametrize(("name", "stride"), [("add", 2), ("fail", 5), ("fail_unnoted", 7)])
def test_after_any_step(opened, name, stride):
    steps = range(1, 2000, stride)
    reached = next(step for step in steps if not interrupted(opened, f"{name}-{step}", name, step))
    assert reached > 20, "there are many steps"


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 7, 8])
def test_who_is_interrupted_before_leading_hands_the_lead_on(step):
    """The very steps between joining and leading."""
    done = []
    turns = Turns(done.extend)
    first, second = Ticket(None, None, None), Ticket(None, None, None)
    try:
        with Interrupt(step, Turns.take):
            turns.take(first)
    except KeyboardInterrupt:
        pass
    refused = []

    def take():
        try:
            turns.take(second)
        except PerdureError as error:
            refused.append(error)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for ever"
    assert (second in done) != bool(refused)


def test_a_snapshot_that_was_interrupted_is_not_waited_for(opened, monkeypatch):
    system = opened(Both)
    real = threading.Thread.start

    def start(self):
        if self.name == "perdure snapshot":
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        system.snapshot()
    monkeypatch.setattr(threading.Thread, "start", real)
    system.root.add("after")
    assert system.snapshot().sequence == 1
    system.close()
