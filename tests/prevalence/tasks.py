"""The systems of the tests: a to-do list, and commands that are objects."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from perdure import prevalence
from perdure.prevalence import command


class Tasks:
    """The to-do list of the article."""

    def __init__(self):
        self.open = {}
        self.done = []

    @command
    def add(self, text, **more):
        if not text:
            raise ValueError("a task needs a text")
        self.open[text] = (prevalence.now(), more)
        return len(self.open)

    @command
    def finish(self, text):
        self.done.append(text)
        del self.open[text]

    @command
    def add_all(self, *texts):
        for text in texts:
            self.add(text)

    @command
    def draw(self):
        found = prevalence.random(), prevalence.uuid4(), prevalence.random_source().choice(range(1000))
        self.done.append(found)
        return found

    @command
    def keep(self, thing):
        self.done.append(thing)
        return thing

    @command
    def spin(self, seconds):
        self.done.append("spinning")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    @command(version=2, upgrade=lambda version, args, keywords: ((args[0].upper(),), keywords))
    def shout(self, text):
        self.done.append(text)

    def count(self):
        return len(self.open)


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self):
        self.left = []

    @command
    def both(self, value):
        self.left.append(value)
        self.right = value
        if value < 0:
            raise ValueError(value)


@dataclass
class Rename:
    old: str
    new: str
    log: list = field(default_factory=list)

    def apply(self, root):
        root.open[self.new] = root.open.pop(self.old)
        self.log.append("applied")
        return self


class Pair(tuple):
    """A command whose state is not its attributes."""

    def apply(self, root):
        root.done.extend(self)


class NoCommand:
    pass
