"""Objects whose classes are not here load from the code that made them, if the opener allows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
from perdure.objects.instances.persistable import Persistable
from perdure.upkeep import check

USER = """
from perdure import Persistable
from shop.items import Item

class User(Persistable):
    def __init__(self, name):
        self.name, self.items = name, [Item("pen")]

    def late(self):
        import latecomer
        return latecomer.WORD

class Basket(list, Persistable):
    pass

class Plain:
    def __init__(self, number):
        self.number = number

def price(item):
    return 2
"""
SHOP = {
    "user.py": USER,
    "latecomer.py": "WORD = 'late'\n",
    "shop/__init__.py": "from . import base\n",
    "shop/items.py": "from .base import Base\n\nclass Item(Base):\n    pass\n",
    "shop/empty/__init__.py": "",
    "shop/base.py": "from . import empty\n\nclass Base:\n    def __init__(self, name):\n        self.name = name\n",
}
SAVE = """
import functools, user
given = user.User("Ada")
basket = user.Basket([user.Plain(1), given])
show([store.save(given), store.save([user.Plain(3), functools.partial(user.price, 4)]), store.save(basket)])
store.roots["all"] = [given, user.Plain(5)]
"""


class Places:
    """Directories in which Python runs, each in processes of its own, with one store."""

    def __init__(self, root: Path):
        self.root = root
        self.url = f"sqlite:///{root}/objects.db"

    def write(self, place: str, files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = self.root / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return self.root / place

    def run(self, place: str, script: str, **arguments: object) -> object:
        """What the script shows, in a new process there; the store is open in it, and closed at its end."""
        (self.root / place).mkdir(exist_ok=True)
        head = "import json, sys, perdure\nshow = lambda value: print('shown', json.dumps(value))\n"
        head += f"with perdure.make_store({self.url!r}, **{arguments!r}) as store:\n"
        body = "".join(f"    {line}\n" for line in script.strip().splitlines())
        done = subprocess.run(
            [sys.executable, "-c", head + body], cwd=self.root / place, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = [line.removeprefix("shown ") for line in done.stdout.splitlines() if line.startswith("shown ")]
        return json.loads(lines[-1]) if lines else None

    def refusal(self, place: str, script: str, **arguments: object) -> tuple[str, str]:
        """The name and the text of the error that the script raises there."""
        lines = "".join(f"    {line}\n" for line in script.strip().splitlines())
        caught = f"try:\n{lines}except perdure.PerdureError as error:\n    show([type(error).__name__, str(error)])"
        found = self.run(place, caught, **arguments)
        assert isinstance(found, list)
        return found[0], found[1]


@pytest.fixture
def places(tmp_path):
    yield Places(tmp_path)
    with perdure.make_store(f"sqlite:///{tmp_path}/objects.db", create=False) as store:
        assert check(store) == []


@pytest.fixture
def ids(places):
    places.write("there", SHOP)
    return places.run("there", SAVE)


def test_objects_load_where_there_is_nothing_of_their_code(places, ids):
    shown = places.run(
        "here",
        f"""
user, values, basket = store.load_many({ids!r})
show([user.name, user.items[0].name, type(user.items[0]).__mro__[1].__name__, values[0].number, values[1](),
      basket[0].number, basket[1] is user, store.roots["all"][1].number, user.late()])
""",
        code="archived",
    )
    assert shown == ["Ada", "pen", "Base", 3, 2, 1, True, 5, "late"]


def test_each_of_them_loads_by_itself(places, ids):
    for id_, told in zip(ids, ["Ada", 3, 1], strict=True):
        script = f"found = store.load({id_!r})\nfound = found[0] if isinstance(found, list) else found\n"
        script += "show(found.name if hasattr(found, 'name') else found.number)"
        assert places.run("here", script, code="archived") == told
    assert places.run("here", "show(store.roots['all'][1].number)", code="archived") == 5


def test_what_was_imported_says_where_it_is_from(places, ids):
    shown = places.run(
        "here",
        f"""
user = store.load({ids[0]!r})
user.items
modules = [sys.modules[name] for name in ("user", "shop", "shop.items")]
show([[module.__spec__.origin.partition(": ")[2], type(module.__loader__).__name__] for module in modules]
     + [modules[0].__spec__.origin.startswith("perdure Code."), sys.meta_path[-1].__class__.__name__])
""",
        code="archived",
    )
    assert shown == [
        ["user.py", "ArchivedLoader"],
        ["shop/__init__.py", "ArchivedLoader"],
        ["shop/items.py", "ArchivedLoader"],
        True,
        "ArchiveFinder",
    ]


def test_the_finder_serves_nobody_else(places, ids):
    script = f"""
store.load({ids[0]!r})
found = []
for name in ("latecomer", "shop.other", "user.nothing"):
    try:
        __import__(name)
    except ImportError:
        found.append(name)
show(found)
"""
    assert places.run("here", script, code="archived") == ["latecomer", "shop.other", "user.nothing"]


def test_tracebacks_and_source_have_the_lines(places, ids):
    script = f"""
import inspect, traceback
user = store.load({ids[0]!r})
user.late()
sys.modules["latecomer"] = None
try:
    user.late()
except ImportError:
    show([traceback.format_exc(), inspect.getsource(type(user).late)])
"""
    shown = places.run("here", script, code="archived")
    assert "import latecomer" in shown[0]
    assert "user.py" in shown[0]
    assert "return latecomer.WORD" in shown[1]


def test_nothing_is_imported_without_leave_and_the_error_tells_how(places, ids):
    for id_ in ids:
        name, text = places.refusal("here", f"store.load({id_!r})")
        assert name == "ClassNotFound"
        assert id_ in text
        assert "code='archived'" in text
        assert "imported from Code." in text
        assert text.count("code='archived'") == 1
    assert "code='archived'" in places.refusal("here", "store.roots['all']")[1]


def test_the_error_names_the_commit(places):
    there = places.write("there", SHOP)
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a step"]):
        subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments], cwd=there, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=there, check=True, capture_output=True, text=True).stdout
    ids = places.run("there", SAVE)
    assert f"(commit {commit[:7]})" in places.refusal("here", f"store.load({ids[0]!r})")[1]


def test_what_is_here_is_never_taken_from_a_record(places, ids):
    places.write("here", SHOP | {"user.py": USER + "\nmark = 'here'\n"})
    script = f"store.load({ids[0]!r})\nshow(sys.modules['user'].mark)"
    assert places.run("here", script, code="archived") == "here"


def test_a_module_here_of_another_version_is_refused_by_name(places, ids):
    places.write("here", {"user.py": "from perdure import Persistable\n"})
    name, text = places.refusal("here", f"store.load({ids[0]!r})", code="archived")
    assert name == "VersionClash"
    assert f"{places.root}/here/user.py" in text
    assert "Code." in text
    assert ids[0] in places.refusal("here", f"store.load({ids[0]!r})")[1]


def test_a_used_module_of_another_version_is_refused_before_anything_runs(places, ids):
    places.write("here", {"latecomer.py": "WORD = 'other'\n"})
    script = f"""
try:
    store.load({ids[0]!r})
except perdure.VersionClash as error:
    show([error.path, error.ids[0], "user" in sys.modules])
"""
    assert places.run("here", script, code="archived") == ["latecomer", ids[0], False]


def test_a_directory_of_the_name_is_no_module(places, ids):
    (places.write("here", {}) or places.root / "here").joinpath("shop").mkdir(parents=True)
    assert places.refusal("here", f"store.load({ids[0]!r})", code="archived")[0] == "VersionClash"


def test_two_versions_in_one_process_are_refused(places, ids):
    places.write("later", SHOP | {"shop/base.py": SHOP["shop/base.py"] + "\nmark = 2\n"})
    second = places.run("later", SAVE)
    script = f"""
store.load({ids[0]!r}).items
try:
    store.load({second[0]!r}).items
except perdure.VersionClash as error:
    show([error.path, error.ids[0], str(error), store.load({ids[0]!r}).name])
"""
    shown = places.run("here", script, code="archived")
    assert shown[:2] == ["shop.base", second[0]]
    assert shown[2].count("Code.") == 2
    assert shown[3] == "Ada"
    loads_alone = f"show(store.load({second[0]!r}).name)"
    assert places.run("here", loads_alone, code="archived") == "Ada"


def test_a_seal_that_is_not_good_keeps_it_from_running(places, ids, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))  # the store's key is not here
    name, _ = places.refusal("here", f"store.load({ids[0]!r})", code="archived")
    assert name == "UntrustedRecord"
    script = f"show(store.load({ids[0]!r}).name)"
    assert places.run("here", script, code="archived", trust="all") == "Ada"
    script = f"show(store.load({ids[0]!r}, trust='all').name)"
    assert places.run("here", script, code="archived") == "Ada"


def test_what_was_loaded_so_is_saved_with_its_code(places, ids):
    script = f"""
user = store.load({ids[0]!r})
user.name = "Eve"
store.save(user)
"""
    places.run("here", script, code="archived")
    script = f"user = store.load({ids[0]!r})\nshow([user.name, user.late(), type(user.items[0]).__name__])"
    assert places.run("nowhere", script, code="archived") == ["Eve", "late", "Item"]
    assert places.run("here", "show(len([1 for id_ in store.list(all=True) if id_.startswith('Source')]))") == 5


def test_a_forgotten_text_comes_from_the_repository_or_is_named(places):
    there = places.write("there", SHOP)
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a step"]):
        subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments], cwd=there, check=True)
    ids = places.run("there", SAVE)
    places.run("there", "for id_ in store.list(all=True):\n    if id_.startswith('Source'): store.forget(id_)")
    name, text = places.refusal("here", f"store.load({ids[0]!r})", code="archived")
    assert name == "SourceMissing"
    assert "commit" in text
    (there / "user.py").unlink()  # the module is not here any more, but the commit is
    assert places.run("there", f"show(store.load({ids[0]!r}).name)", code="archived") == "Ada"


def test_code_that_raises_is_an_error_that_tells_what_it_ran_with(places):
    places.write("there", SHOP | {"user.py": "import numpy\n" + USER, "numpy.py": ""})
    places.write("there", {"user.py": "import os\nif 'GONE' in os.environ: import gone\n" + USER})
    ids = places.run("there", SAVE)
    os.environ["GONE"] = "1"
    name, text = places.refusal("here", f"store.load({ids[0]!r})", code="archived")
    assert name == "ClassNotFound"
    assert "No module named 'gone'" in text
    assert f"It ran with {sys.implementation.name}" in text


def test_a_record_without_code_says_so_by_saying_nothing(places):
    places.write("there", SHOP)
    ids = places.run("there", SAVE, code="off")
    name, text = places.refusal("here", f"store.load({ids[0]!r})", code="archived")
    assert name == "ClassNotFound"
    assert "Code." not in text


def test_a_class_that_the_code_does_not_have_either(places, ids):
    places.write("here", {"user.py": ""})
    with perdure.make_store(places.url) as store:
        code = next(id_ for id_ in store.list(all=True) if id_.startswith("Code"))
        assert store.load(code).state.module("user") is not None
    name, text = places.refusal("here", f"store.load({ids[0]!r})", code="archived")
    assert (name, "user" in text) == ("VersionClash", True)


def test_each_import_from_a_record_is_an_audit_event(places, ids):
    script = f"""
heard = []
sys.addaudithook(lambda event, arguments: heard.append(arguments) if event == "perdure.archived_import" else None)
store.load({ids[0]!r})
show([heard[0][0], heard[0][1].startswith("Code."), len(heard)])
"""
    assert places.run("here", script, code="archived") == ["user", True, 1]


def test_other_choices_are_refused():
    with pytest.raises(ValueError, match="archived"):
        perdure.make_store("memory:", code="everything")


class Eager(list, Persistable):
    """Loads at once, with all that is in it."""


class Thing:
    """In the objects below, and then gone."""


def test_what_could_not_be_loaded_is_not_found_half_made(tmp_path, monkeypatch):
    with perdure.make_store(tmp_path / "objects") as store:
        id_ = store.save(Eager([Thing()]))
    thing = globals()["Thing"]
    with perdure.make_store(tmp_path / "objects") as store:
        monkeypatch.delitem(globals(), "Thing")
        for _ in range(2):
            with pytest.raises(perdure.ClassNotFound):
                store.load(id_)
        monkeypatch.setitem(globals(), "Thing", thing)
        assert len(store.load(id_)) == 1
