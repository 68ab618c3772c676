"""Ten commits in which classes wander, an object saved at each: all load at the last one, each with its own code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

# Where the class is at each commit: module, class.
STEPS = [
    ("shop", "Cart"), ("shop", "Cart"), ("shop", "Basket"), ("store.models", "Basket"), ("store.models", "Basket"),
    ("store.models", "Outer.Basket"), ("store.carts", "Outer.Basket"), ("market", "Basket"), ("lib.market", "Basket"),
    ("lib.market", "Trolley"),
]  # fmt: skip
CLASS = """
class {name}(Persistable):
    def __init__(self, number):
        self.number, self.parts = number, [Part(number)]

    def told(self):
        return [type(self).__module__, type(self).__qualname__, self.number, self.parts[0].number, STEP]
"""
MODULE = """
import perdure
from perdure import Persistable

STEP = {step}

class Part:
    def __init__(self, number):
        self.number = number
"""
RENAMES = """
perdure.rename("shop:Cart", "shop:Basket")
perdure.rename("shop:Part", "lib.market:Part")
perdure.rename("shop:Basket", "store.models:Basket")
perdure.rename("store.models:Basket", "store.models:Outer.Basket")
perdure.move_module("store.models", "store.carts")
perdure.rename("store.carts:Outer.Basket", "market:Basket")
perdure.rename("store.carts:Part", "market:Part")
perdure.move_module("market", "lib.market")
perdure.rename("lib.market:Basket", "lib.market:Trolley")
"""


WORK = """
from perdure import flow, job

@job
def told(number):
    import importlib
    found = importlib.import_module("{module}")
    for part in "{name}".split("."):
        found = getattr(found, part)
    return found(number).told()

@flow
def tell(number):
    return told(number)
"""


def module_text(step):
    module, name = STEPS[step]
    outer, _, inner = name.rpartition(".")
    body = CLASS.format(name=inner)
    if outer:
        body = f"\nclass {outer}:\n" + "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    return module, MODULE.format(step=step) + body


def git(where, *arguments):
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments]
    subprocess.run(command, cwd=where, check=True, capture_output=True)


def python(where, text, url):
    """What the script prints, where it is run; keys are beside the store."""
    environment = {**os.environ, "XDG_CONFIG_HOME": os.path.dirname(url.removeprefix("sqlite:///"))}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """The repository at its last commit, the URL of the store, the ids of the ten objects, and of ten runs."""
    root = tmp_path_factory.mktemp("wandering")
    place, url, ids, runs = root / "project", f"sqlite:///{root}/all.db", [], []
    place.mkdir()
    git(place, "init", "-q")
    for step in range(len(STEPS)):
        for old in place.iterdir():
            if old.name != ".git":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        module, text = module_text(step)
        file = place.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        (place / "work.py").write_text(WORK.format(module=module, name=STEPS[step][1]))
        git(place, "add", "-A")
        git(place, "commit", "-q", "-m", f"step {step}")
        save = f"import json, perdure, work, {module} as m\nwith perdure.make_store({url!r}) as store:\n"
        save += f"    id_ = store.save(m.{STEPS[step][1]}({step}))\n"
        save += f"    run = perdure.start(work.tell, {step}, store=store, executor='inline')\n"
        made = python(place, f"{save}    print(json.dumps([id_, run.id, run.result()]))", url)
        assert made[2] == [*STEPS[step], step, step, step]
        ids.append(made[0])
        runs.append(made[1])
    return place, url, ids, runs


def loads(url, ids, arguments, first=""):
    text = f"import json, perdure\n{first}\nwith perdure.make_store({url!r}, {arguments}) as store:\n"
    return text + f"    print(json.dumps([store.load(id_).told() for id_ in {ids!r}]))"


def test_all_load_at_the_last_commit_by_what_is_declared(history):
    place, url, ids, _ = history
    shown = python(place, loads(url, ids, "", RENAMES), url)
    assert shown == [["lib.market", "Trolley", step, step, len(STEPS) - 1] for step in range(len(STEPS))]


def test_each_loads_with_its_own_code_where_there_is_none(history, tmp_path):
    _, url, ids, _ = history
    for step, id_ in enumerate(ids):
        shown = python(tmp_path, loads(url, [id_], "code='archived'"), url)
        module, name = STEPS[step]
        assert shown == [[module, name, step, step, step]]


def test_what_is_declared_comes_before_what_is_archived(history):
    place, url, ids, _ = history
    shown = python(place, loads(url, ids, "code='archived'", RENAMES), url)
    assert {each[0] for each in shown} == {"lib.market"}


def test_what_is_archived_comes_before_what_is_opaque(history, tmp_path):
    _, url, ids, _ = history
    text = f"import json, perdure\nwith perdure.make_store({url!r}, code='archived') as store:\n"
    text += f"    found = [store.load(id_, missing='opaque') for id_ in {[ids[0], ids[3]]!r}]\n"
    text += "    print(json.dumps([[type(each).__qualname__, isinstance(each, perdure.Opaque)] for each in found]))"
    assert python(tmp_path, text, url) == [["Cart", False], ["Basket", False]]
    other = text.replace("code='archived'", "code='recorded'")
    assert [opaque for _, opaque in python(tmp_path, other, url)] == [True, True]


def test_each_is_run_again_with_its_own_code(history):
    place, url, _, runs = history
    text = f"import json, perdure\nwith perdure.make_store({url!r}) as store:\n"
    text += f"    runs = store.load_many({runs!r})\n"
    text += "    for run in runs:\n        perdure.rerun(run, all=True, code='recorded', workers=1)\n"
    text += "    print(json.dumps([run.result() for run in runs]))"
    shown = python(place, text, url)
    assert shown == [[*STEPS[step], step, step, step] for step in range(len(STEPS))]


VERSIONED = """
import perdure
from dataclasses import dataclass
from perdure import Persistable

@perdure.versioned("shop.Size", version=2)
@dataclass(frozen=True, slots=True)
class Size:
    x: int

perdure.upgrade(Size, 1, rename={"y": "x"})

@perdure.versioned("shop.Order", version=2)
class Order(Persistable):
    def __init__(self, x):
        self.size = Size(x)

perdure.upgrade(Order, 1, add={"more": 1})
"""


def test_classes_with_stable_names_load_from_their_code_too(tmp_path):
    there, here, url = tmp_path / "there", tmp_path / "here", f"sqlite:///{tmp_path}/all.db"
    there.mkdir()
    here.mkdir()
    (there / "shop.py").write_text(VERSIONED)
    save = f"import json, perdure, shop\nwith perdure.make_store({url!r}) as store:\n"
    save += "    print(json.dumps(store.save_many([shop.Order(1), [shop.Size(2)], {'of': shop.Order(3)}])))"
    ids = python(there, save, url)
    text = f"import json, sys, perdure\nwith perdure.make_store({url!r}, code='archived') as store:\n"
    for id_, shown in zip(ids, ("found.size.x", "found[0].x", "found['of'].size.x"), strict=True):
        load = f"{text}    found = store.load({id_!r})\n"
        load += f"    print(json.dumps([{shown}, sys.modules['shop'].__spec__.origin]))"
        value, origin = python(here, load, url)
        assert (value, origin.partition(":")[2]) == (ids.index(id_) + 1, " shop.py")
    refused = text.replace("archived", "recorded")
    refused += (
        f"    try: store.load({ids[1]!r})\n    except perdure.ClassNotFound as error: print(json.dumps(str(error)))"
    )
    assert "code='archived'" in python(here, refused, url)
