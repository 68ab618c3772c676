"""Random classes change by random steps between saving and loading, each in a process of its own; all protocols.

- Steps: rename, move, nest, un-nest, reorder, add, remove. The names that they give are declared; nothing else is.
- Whatever a class has become, each attribute that it still has is the one that was saved.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KINDS = ("record", "slot_record", "data", "frozen", "slots", "tuple", "enum", "plain")
HEAD = "import enum, typing\nfrom dataclasses import dataclass\nfrom perdure import Persistable\n\n"
DECORATORS = {"record": "@dataclass", "slot_record": "@dataclass(frozen=True, slots=True)", "data": "@dataclass",
              "frozen": "@dataclass(frozen=True, slots=True)", "slots": "@dataclass(slots=True)"}  # fmt: skip
BASES = {
    "record": "(Persistable)",
    "slot_record": "(Persistable)",
    "tuple": "(typing.NamedTuple)",
    "enum": "(enum.Enum)",
}


class Model:
    """One class: where it is, what it is called, which attributes it has, each with the value of its default."""

    def __init__(self, number: int, kind: str, chance: random.Random):
        self.kind = kind
        self.module = f"mod{number % 3}"
        self.names = [f"Class{number}"]
        self.saved = [f"a{place}" for place in range(chance.randint(1, 4))]
        self.attributes = list(self.saved)

    @property
    def name(self) -> str:
        return f"{self.module}:{'.'.join(self.names)}"

    def text(self) -> str:
        lines = [f"class {outer}:" for outer in self.names[:-1]]
        body = [DECORATORS[self.kind]] if self.kind in DECORATORS else []
        body.append(f"class {self.names[-1]}{BASES.get(self.kind, '')}:")
        for place, name in enumerate(self.attributes):
            if self.kind == "enum":
                body.append(f"    {name} = {place + 1}")
            elif self.kind == "plain":
                body.append(f"    {name} = None")
            else:
                body.append(f"    {name}: int = {default(name)}")
        if not self.attributes:
            body.append("    pass")
        indented = [f"{'    ' * place}{line}" for place, line in enumerate(lines)]
        return "\n".join(indented + [f"{'    ' * len(lines)}{line}" for line in body]) + "\n\n"


def default(name: str) -> int:
    return 1000 + int(name[1:])


class World:
    """Classes in modules, and what was declared of their names."""

    def __init__(self, chance: random.Random):
        self.chance = chance
        self.count = 100
        self.models = [Model(number, kind, chance) for number, kind in enumerate(KINDS)]
        self.declared: list[tuple[str, str, str]] = []

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def write(self, folder: Path) -> None:
        folder.mkdir()
        texts: dict[str, str] = {}
        for model in self.models:
            texts[model.module] = texts.get(model.module, HEAD) + model.text()
        for module, text in texts.items():
            path = folder / Path(*module.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def step(self) -> None:
        model, what = self.chance.choice(self.models), self.chance.choice(STEPS)
        before = model.name
        if what == "rename":
            model.names[-1] = self.fresh("Renamed")
        elif what == "nest":
            model.names = [self.fresh("Outer"), *model.names[:-1], self.fresh("Nested")]
        elif what == "unnest" and len(model.names) > 1:
            model.names = [self.fresh("Free")]
        elif what == "move":
            model.module = f"{self.fresh('package')}.{self.fresh('part')}"
        elif what == "move_module":
            old, new = model.module, f"{self.fresh('moved')}.{self.fresh('below')}"
            for each in self.models:
                each.module = new if each.module == old else each.module
            self.declared.append(("move", old, new))
        elif what == "reorder":
            self.chance.shuffle(model.attributes)
        elif what == "add":
            model.attributes.insert(self.chance.randint(0, len(model.attributes)), self.fresh("a"))
        elif what == "remove" and len(model.attributes) > 1 and model.kind != "enum":
            model.attributes.remove(self.chance.choice(model.attributes))
        if model.name != before and what != "move_module":
            self.declared.append(("rename", before, model.name))


STEPS = ("rename", "nest", "unnest", "move", "move_module", "reorder", "add", "remove")

WRITER = """
import functools, json, sys, warnings
import perdure
from importlib import import_module
job = json.load(open("job.json"))
def find(name):
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), import_module(module))
objects = {}
for key, (name, kind, saved) in job["classes"].items():
    cls = find(name)
    if kind == "enum":
        objects[key] = [getattr(cls, each) for each in saved]
    elif kind == "plain":
        objects[key] = cls()
        for place, each in enumerate(saved):
            setattr(objects[key], each, 10 * int(key) + place)
    else:
        objects[key] = cls(**{each: 10 * int(key) + place for place, each in enumerate(saved)})
store = perdure.make_store(job["url"], code="off")
store.roots["all"] = {"objects": objects, "classes": {key: type(obj) for key, obj in objects.items()}}
store.close()
values = {key: obj for key, obj in objects.items() if not isinstance(obj, perdure.Persistable)}
for protocol in range(6):
    some = {key: obj for key, obj in values.items() if protocol >= 2 or job["classes"][key][1] != "slots"}
    open(f"values.{protocol}", "wb").write(perdure.dumps([some, functools.partial(print, some)], protocol))
"""
READER = """
import functools, json, sys, warnings
import perdure
warnings.simplefilter("ignore", perdure.EvolutionWarning)
from importlib import import_module
job = json.load(open("job.json"))
for what, old, new in job["declared"]:
    (perdure.rename if what == "rename" else perdure.move_module)(old, new)
def find(name):
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), import_module(module))
def check(objects):
    for key, (name, kind, saved) in job["classes"].items():
        if key not in objects:
            continue
        obj, (now, attributes) = objects[key], job["now"][key]
        cls = find(now)
        if kind == "enum":
            assert obj == [getattr(cls, each) for each in saved], (key, obj)
            continue
        assert obj.__class__ is cls, (key, obj.__class__, cls)
        for each in attributes:
            wanted = 10 * int(key) + saved.index(each) if each in saved else 1000 + int(each[1:])
            if kind != "plain" or each in saved:
                assert getattr(obj, each) == wanted, (key, kind, each, getattr(obj, each), wanted)
        if kind in ("record", "data", "plain"):
            assert all(vars(obj)[each] == 10 * int(key) + saved.index(each) for each in saved), (key, vars(obj))
store = perdure.make_store(job["url"], code="off")
before = store.revision()
found = store.roots["all"]
with store.transaction():
    check(found["objects"])
assert store.revision() == before, "what was only looked at was written"
assert all(cls is (list if job["classes"][key][1] == "enum" else find(job["now"][key][0]))
           for key, cls in found["classes"].items())
from perdure.upkeep import upgrade
done = upgrade(store)
assert not done.failures, done
assert upgrade(store).written == 0
store.close()
again = perdure.make_store(job["url"], code="off")
check(again.roots["all"]["objects"])
assert again.check() == []
for protocol in range(6):
    values, call = perdure.loads(open(f"values.{protocol}", "rb").read())
    assert call.args[0] is values
    check(values)
print("all is well")
"""


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["directory", "sqlite"]))
def test_random_classes_change_by_random_steps(seed, kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world = World(random.Random(seed))
    url = str(folder / "store") if kind == "directory" else f"sqlite:///{folder}/store.db"
    classes = {str(n): (model.name, model.kind, list(model.saved)) for n, model in enumerate(world.models)}
    world.write(folder / "before")
    for _ in range(40):
        world.step()
    world.write(folder / "after")
    now = {str(n): (model.name, model.attributes) for n, model in enumerate(world.models)}
    job = {"classes": classes, "now": now, "declared": world.declared, "url": url}
    (folder / "job.json").write_text(json.dumps(job))
    run(folder, "before", WRITER)
    assert run(folder, "after", READER) == "all is well\n"


def run(folder: Path, code: str, script: str) -> str:
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(folder / code)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{code}: {done.stderr}\n{(folder / 'job.json').read_text()}")
    return done.stdout
