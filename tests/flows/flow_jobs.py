"""Jobs and flows for the tests, at the top level of a module, so that worker processes find them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections import defaultdict, namedtuple
from dataclasses import dataclass
from pathlib import Path

from perdure import Persistable, flow, job


def mark(folder, name):
    """Leave a file that says that the job of this name was really run once more."""
    descriptor, _ = tempfile.mkstemp(prefix=f"{name}.", dir=folder)
    os.close(descriptor)


class Ticket(Persistable):
    """Has an index."""

    __indexed__ = ("state",)

    def __init__(self, state):
        self.state = state


@job
def close(ticket):
    ticket.state = "closed"
    return ticket, Ticket("follow-up")


@flow
def closing(ticket):
    return close(ticket)


@job
def add(a, b=0):
    return a + b


@job
def same(value):
    return value


@job(name="parse")
def number(text):
    return int(text)


@job
def tally(counts):
    return sum(counts)


@flow
def survey(texts):
    return tally([number(text) for text in texts])


@flow
def diamond(start):
    top = add(start, 1)
    return add(add(top, 10), b=add(top, 100))


@flow
def chosen_last(start):
    made = [add(start, i) for i in range(4)]
    add(made[3], made[1])
    return made[2]


Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Line:
    start: object
    end: object = None


class Shelf(list):
    """A list that holds something besides its items."""

    label = ""


@job
def look(value):
    """What a job was given, told in a way that can be compared."""
    return value


@flow
def nested():
    one, two = same(1), same(2)
    groups = defaultdict(list, {"both": [one, two]})
    shelf = Shelf([one])
    shelf.label = "top"
    return look({
        "list": [one, [two]], "tuple": (one, (two,)), "named": Pair(one, two), one: "key", "set": {one, two},
        "frozen": frozenset([two]), "line": Line(one, Line(two)), "groups": groups, "shelf": shelf, "plain": [1, "x"],
    })  # fmt: skip


@flow
def nothing_returned(folder):
    touch(folder, "a")


@flow
def empty():
    return {"nothing": [1, 2]}


@flow
def structure():
    first = same("x")
    return {"a": [first, 1], "b": (same("y"), first)}


@job
def touch(folder, name, *needs):
    mark(folder, name)
    return name


@job
def fail(folder, name, *needs):
    mark(folder, name)
    raise ValueError(f"{name} is wrong")


@job
def fail_while(folder, name, file, *needs):
    """Fails as long as there is that file."""
    mark(folder, name)
    if Path(file).exists():
        raise ValueError(f"{name} is wrong")
    return name


@flow
def mixed(folder):
    """One fails; two depend on it, one by way of the other; two do not."""
    good, bad = touch(folder, "good"), fail(folder, "bad")
    after = touch(folder, "after", bad)
    return [good, touch(folder, "free", good), touch(folder, "last", after, good)]


@flow
def mendable(folder, file):
    good = touch(folder, "good")
    bad = fail_while(folder, "bad", file, good)
    return [touch(folder, "free", good), touch(folder, "last", bad)]


@job(retries=2)
def third_time(folder):
    mark(folder, "tries")
    tries = len(list(Path(folder).glob("tries.*")))
    if tries < 3:
        raise RuntimeError(f"try {tries}")
    return tries


@flow
def persistent(folder):
    return third_time(folder)


# -- what goes wrong -------------------------------------------------------------------------------------


@job
def leave(how):
    if how == "sys.exit":
        sys.exit(3)
    if how == "os._exit":
        os._exit(3)
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "child":  # a forked child keeps the worker's channel open for a while
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        os._exit(4)
    if how == "base":
        raise type("Stop", (BaseException,), {})("all of it")
    if how == "ctrl-c":
        raise KeyboardInterrupt("by the job itself")
    raise AssertionError(how)


@job
def fork(folder, how):
    """The child leaves the job's function: it must not come back as a second worker."""
    child = os.fork()
    if child == 0:
        if how == "raise":
            raise ValueError("in the child")
        return "child"
    _, status = os.waitpid(child, 0)
    mark(folder, "parent")
    return os.waitstatus_to_exitcode(status)


@flow
def forking(folder):
    return [fork(folder, "raise"), fork(folder, "return"), touch(folder, "after")]


@flow
def leaving(how, folder):
    leave(how)
    return [touch(folder, "one"), touch(folder, "two")]


@job
def give(what):
    return WHAT[what]()


def lock():
    return {"inside": [threading.Lock()]}


def function():
    return lambda: 1


def from_worker_only():
    """An object of a class in a module that only this process has."""
    module = types.ModuleType(f"made_in_{os.getpid()}")
    exec("class Thing:\n    pass\n", module.__dict__)
    sys.modules[module.__name__] = module
    return module.Thing()


class Touchy:
    """Leaves a trace when it is loaded."""

    loaded = []

    def __getstate__(self):
        return {"value": 1}

    def __setstate__(self, state):
        self.loaded.append(os.getpid())
        raise RuntimeError("state methods must not be run by the check")


class Item(Persistable):
    def __init__(self, name):
        self.name = name
        self.log = []


class Pocket(Persistable):
    def __init__(self, content):
        self.content = content


def item():
    made = Pocket(Item("pen"))
    return [made, made.content]


WHAT = {"lock": lock, "function": function, "worker only": from_worker_only, "touchy": Touchy, "item": item}


@job
def give_of(module):
    return importlib.import_module(module).Thing()


@flow
def importing(module):
    return give_of(module)


@flow
def giving(what, folder):
    return [give(what), touch(folder, "free")]


@job(timeout=0.3)
def sleepy(how):
    if how == "sleep":
        time.sleep(60)
    if how == "swallow":
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001
            return "swallowed"
    if how == "swallow all":
        while True:
            try:
                time.sleep(60)
            except BaseException:  # noqa: BLE001
                continue
    if how == "swallow once":
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001
            return "swallowed"
    if how == "program":
        subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=True)
    return how


@flow
def timed(how):
    return sleepy(how)


# -- objects that jobs change ----------------------------------------------------------------------------


@job
def write_log(thing, text, fails=False):
    thing.log.append(text)
    thing.name = thing.name.upper()
    if fails:
        raise ValueError("after the change")
    return thing


@flow
def writing(thing, texts, fails=False):
    done = None
    for text in texts:
        done = write_log(thing if done is None else done, text, fails=fails)
    return done


@job(retries=1)
def meet(thing, url, folder):
    """Changes an object that somebody else changes meanwhile: at the first try only."""
    import perdure

    thing.log.append("job")
    mark(folder, "meet")
    if len(list(Path(folder).glob("meet.*"))) == 1:
        with perdure.make_store(url) as store:
            other = store.load(thing.persistent_id)
            other.log.append("somebody else")
            store.save(other)
    return len(thing.log)


@job
def meet_once(thing, url, folder):
    return meet.function(thing, url, folder)


@flow
def meeting(thing, url, folder, again):
    return [(meet if again else meet_once)(thing, url, folder), touch(folder, "free")]


@job
def only_look(thing):
    return thing.name, list(thing.log)


@flow
def nothing_but_looking(thing):
    return only_look(thing)


@job
def meet_other(thing, folder, name):
    """Changes the object while another job does."""
    mark(folder, "here")
    thing.log.append(name)
    for _ in range(500):
        if len(list(Path(folder).glob("here.*"))) > 1:
            break
        time.sleep(0.01)
    return name


@flow
def together(thing, folder):
    return [meet_other(thing, folder, "one"), meet_other(thing, folder, "two")]


@job
def make_pocket():
    return Pocket(Item("pen"))


@job
def name_of(pocket):
    return pocket.content.name


@job
def content_of(pocket):
    return pocket.content


@flow
def passing_on():
    pocket = make_pocket()
    return name_of(pocket), content_of(pocket)


@job
def refer(thing, url):
    """Returns a reference to something that is gone by then."""
    import perdure

    with perdure.make_store(url) as store:
        store.remove(thing.content.persistent_id)
    return [thing.content]


# -- slow ones, for what happens meanwhile ---------------------------------------------------------------


@job
def wait_for(folder, name, file, *needs):
    """Runs until there is that file."""
    mark(folder, name)
    while not Path(file).exists():
        time.sleep(0.01)
    return name


@job(idempotent=True)
def wait_idempotent(folder, name, file, *needs):
    return wait_for.function(folder, name, file)


@flow
def slow(folder, file):
    return [touch(folder, "before"), wait_for(folder, "slow", file), touch(folder, "after")]


@flow
def two_slow(folder, file):
    first = touch(folder, "first")
    return [
        wait_for(folder, "once", file, first),
        wait_idempotent(folder, "again", file, first),
        touch(folder, "last", wait_idempotent(folder, "needed", file)),
    ]


@job
def who():
    return os.getpid()


@flow
def processes(count):
    return [who() for _ in range(count)]


# -- for the tests themselves ----------------------------------------------------------------------------


class Marks:
    """Files that tell how often each job really ran: `leave` is called by jobs, in any process."""

    def __init__(self, folder):
        self.folder = str(folder)
        folder.mkdir(exist_ok=True)

    def count(self, name):
        return len(list(Path(self.folder).glob(f"{name}.*")))


def states(run):
    return {job.name: str(job.state) for job in run.jobs()}
