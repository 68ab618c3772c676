"""Rows A12 to A18: the listings of "Python persistence management" about classes that change, run as by its reader.

One script saves, the code changes, another process loads: with `perdure` in place of `pickle`, and in a store.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SAVE = """
import perdure
from {module} import {cls}
obj = {cls}({arguments})
with open("obj.pickle", "wb") as file:
    perdure.dump(obj, file)
store = perdure.make_store("sqlite:///objects.db")
store.roots["obj"] = obj
store.close()
print("saved")
"""
LOAD = """
import perdure
{declared}
with open("obj.pickle", "rb") as file:
    loaded = perdure.load(file)
stored = perdure.make_store("sqlite:///objects.db").roots["obj"]
for obj in (loaded, stored):
    {check}
print("loaded")
"""

Run = Callable[[str], str]


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """Run a script in the reader's folder; gives what it printed, or the last line of what went wrong."""
    monkeypatch.chdir(tmp_path)

    def run(script: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    return run


def write(module: str, text: str) -> None:
    path = Path(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from perdure import Persistable\n" + text)


def save(run: Run, cls: str = "Foo", arguments: str = "'What is a Foo?'", module: str = "persist") -> None:
    assert run(SAVE.format(module=module, cls=cls, arguments=arguments)) == "saved"


def load(run: Run, check: str, declared: str = "") -> str:
    return run(LOAD.format(check=check, declared=declared))


FOO = "class Foo(Persistable):\n    def __init__(self, value): self.value = value\n"


def test_a12_the_instance_keeps_its_state_while_the_class_changes(run):
    write("persist", FOO)
    save(run)
    write("persist", FOO + "    def shout(self): return self.value.upper()\n")
    assert load(run, "assert obj.shout() == 'WHAT IS A FOO?'") == "loaded"


def test_a13_the_class_was_renamed(run):
    write("persist", FOO)
    save(run)
    write("persist", FOO.replace("Foo", "Bar"))
    check = "assert type(obj).__name__ == 'Bar' and obj.value == 'What is a Foo?'"
    told = load(run, check)
    assert told.startswith("perdure.errors.ClassNotFound: persist:Foo cannot be found here: ")
    assert "perdure.rename" in told
    assert load(run, check, "perdure.rename('persist:Foo', 'persist:Bar')") == "loaded"


@pytest.mark.parametrize("new", ["renamed", "package.persist"])
def test_a14_the_module_was_renamed_or_moved(run, new):
    write("persist", FOO)
    save(run)
    Path("persist.py").unlink()
    write(new, FOO)
    check = f"assert type(obj).__module__ == {new!r} and obj.value == 'What is a Foo?'"
    assert "ClassNotFound: persist:Foo cannot be found here: No module named 'persist'" in load(run, check)
    assert load(run, check, f"perdure.move_module('persist', {new!r})") == "loaded"


def test_a14_a_package_moves_with_everything_below_it(run):
    write("company.shop.persist", FOO)
    save(run, module="company.shop.persist")
    Path("company").rename("firm")
    check = "assert type(obj).__module__ == 'firm.shop.persist' and obj.value == 'What is a Foo?'"
    assert load(run, check, "perdure.move_module('company', 'firm')") == "loaded"


def test_a15_an_open_file_by_its_state_methods(run):
    Path("log.txt").write_text("one\ntwo\nthree\n")
    write("persist", '''class TextReader(Persistable):
    def __init__(self, filename):
        self.filename, self.file = filename, open(filename)
        self.file.readline()
    def __getstate__(self):
        state = self.__dict__.copy()
        state["position"] = self.file.tell()
        del state["file"]
        return state
    def __setstate__(self, state):
        self.__dict__.update(state)
        self.file = open(self.filename)
        self.file.seek(self.__dict__.pop("position"))
''')  # fmt: skip
    save(run, "TextReader", "'log.txt'")
    assert load(run, "assert obj.file.readline() == 'two\\n'; obj.file.close()") == "loaded"


def test_a16_the_old_class_turns_its_instances_into_the_new_one(run):
    write("persist", FOO)
    save(run)
    write(
        "persist",
        """class NewFoo(Persistable):
    pass
class Foo(Persistable):
    def __setstate__(self, state):
        self.__dict__.update(state)
        self.__class__ = NewFoo
""",
    )
    assert load(run, "assert obj.value == 'What is a Foo?' and obj.__class__.__name__ == 'NewFoo'") == "loaded"


PERSON = """class Person(Persistable):
    def __init__(self, firstname, lastname): self.firstname, self.lastname = firstname, lastname
"""
CHECK = "assert obj.fullname == 'Patrick OBrien' and not hasattr(obj, 'firstname'), vars(obj)"


def test_a17_a18_two_attributes_became_one_by_an_upgrade(run):
    write("persist", PERSON)
    save(run, "Person", "'Patrick', 'OBrien'")
    write("persist", '''import perdure
@perdure.versioned("company.Person", version=2, formerly=["persist:Person"])
class Person(Persistable):
    def __init__(self, fullname): self.fullname = fullname
@perdure.upgrade(Person, 1)
def join_names(state):
    state["fullname"] = f"{state.pop('firstname')} {state.pop('lastname')}"
''')  # fmt: skip
    assert load(run, CHECK, "import persist") == "loaded"


def test_a17_a18_the_idiom_of_setstate_works_as_written(run):
    write("persist", PERSON)
    save(run, "Person", "'Patrick', 'OBrien'")
    write(
        "persist",
        """class Person(Persistable):
    def __init__(self, fullname): self.fullname = fullname
    def __setstate__(self, state):
        if 'fullname' not in state:
            first = last = ''
            if 'firstname' in state:
                first = state.pop('firstname')
            if 'lastname' in state:
                last = state.pop('lastname')
            self.fullname = " ".join([first, last]).strip()
        self.__dict__.update(state)
""",
    )
    assert load(run, CHECK) == "loaded"
