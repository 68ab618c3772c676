"""The floors of the house hold: no import goes upwards, none closes a circle.

- Every import counts: hidden in a function, under TYPE_CHECKING, or by name (`import_module`, `__import__`).
- A module that imports by name counts as importing each module of the house that it spells in a string.
- Importing something inside a package counts as importing its `__init__` too, unless the importer lives in it.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
HOUSE = "perdure"

# Ground first. What stands in one tuple is on one floor, and does not import one another.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("kernels",),
    ("clock",),
    ("refusals",),
    ("files",),
    ("ownership",),
    ("held",),
    ("counters",),
    ("ids",),
    ("records",),
    ("keys",),
    ("pickling",),
    ("outside",),
    ("evolution",),
    ("code",),
    ("backends",),
    ("objects",),
    ("upkeep",),
    ("prevalence", "flows"),
    ("cli",),
    ("web",),
    ("testing",),
)
HEIGHTS = {name: height for height, names in enumerate(FLOORS) for name in names}
FACES = {"cli", "web", "testing"}
FRONT_DOOR = {HOUSE, f"{HOUSE}.__main__"}

Imports = Mapping[str, set[str]]


def read_house(root: Path) -> dict[str, set[str]]:
    """Each module of the house under `root`, with the modules of the house that it imports."""
    files = {name_of(path, root): path for path in sorted((root / HOUSE).rglob("*.py"))}
    return {name: set(imports_of(name, path, files.keys())) for name, path in files.items()}


def name_of(path: Path, root: Path) -> str:
    """The dotted name of a module's file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(name: str, path: Path, modules: Iterable[str]) -> Iterator[str]:
    """The modules of the house that the file imports, and the packages that this runs; never the module itself."""
    known = set(modules)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for target in (*spelled_in_statements(tree, package, known), *spelled_in_strings(tree, package, known)):
        if target != name and f"{target}.".startswith(f"{HOUSE}."):
            yield target
            yield from (outer for outer in packages_above(target) if not f"{name}.".startswith(f"{outer}."))


def spelled_in_statements(tree: ast.AST, package: str, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            for alias in node.names:
                target = f"{base}.{alias.name}"
                yield target if target in known else base


def spelled_in_strings(tree: ast.AST, package: str, known: set[str]) -> Iterator[str]:
    """What is imported by name; and where that is done at all, each string that is a module's name."""
    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}]
    arguments = {id(argument) for call in calls for argument in call.args}
    for node in nodes if calls else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            spelled = absolute(node.value, package)
            # The bare name of the house in some other place is just its name.
            if id(node) in arguments or (spelled in known and spelled != HOUSE):
                yield spelled


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def absolute(spelled: str, package: str) -> str:
    """A module's name without leading dots."""
    rest = spelled.lstrip(".")
    level = len(spelled) - len(rest)
    if not level:
        return spelled
    above = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*above, rest] if rest else above)


def packages_above(module: str) -> Iterator[str]:
    """The packages that importing `module` runs first, but for the front door, which always runs."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(2, len(parts)))


def floor_of(module: str) -> str:
    return module.split(".")[1]


def upward_imports(imports: Imports) -> list[str]:
    """A line for each import that its floor does not allow, and for each module that stands on no floor."""
    inside = [module for module in imports if module not in FRONT_DOOR]
    lines = [f"{module} stands on no floor" for module in inside if floor_of(module) not in HEIGHTS]
    for module in inside:
        if floor_of(module) in HEIGHTS:
            lines += [f"{module} imports {target}" for target in sorted(imports[module]) if not may(module, target)]
    return lines


def may(module: str, target: str) -> bool:
    """Whether a module that is no front door may import `target`."""
    own = floor_of(module)
    if target in FRONT_DOOR:
        return target == HOUSE and own in FACES
    other = floor_of(target)
    return other == own or HEIGHTS.get(other, len(FLOORS)) < HEIGHTS[own]


def circles(imports: Imports) -> list[list[str]]:
    """A circle for each import that closes one: the modules that one meets on the way round."""
    found: list[list[str]] = []
    finished: set[str] = set()

    def walk(module: str, way: list[str]) -> None:
        if module in way:
            found.append(way[way.index(module) :])
        elif module not in finished:
            for target in sorted(imports.get(module, ())):
                walk(target, [*way, module])
            finished.add(module)

    for module in imports:
        walk(module, [])
    return found


# -- the house -------------------------------------------------------------------------------------------


def test_the_house_that_is_read_is_the_one_that_is_tested():
    found = importlib.util.find_spec(HOUSE)  # found without running it, so that a broken house can be looked at too
    assert found is not None
    assert Path(found.origin or "").resolve().parent == SOURCES / HOUSE
    assert f"{HOUSE}.errors" in read_house(SOURCES)


def test_no_import_goes_upwards():
    assert upward_imports(read_house(SOURCES)) == []


def test_no_imports_in_a_circle():
    assert circles(read_house(SOURCES)) == []


# -- the test itself, on made-up houses ------------------------------------------------------------------


def build(root: Path, files: Mapping[str, str]) -> dict[str, set[str]]:
    """A made-up house of those files (paths inside `perdure`), with `errors.py` and each `__init__.py`."""
    for name, text in {"errors.py": "", **files}.items():
        path = root / HOUSE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in [*(root / HOUSE).rglob("*.py")]:
        (path.parent / "__init__.py").touch()
    return read_house(root)


UPWARD = {
    "plain": "import perdure.objects.store",
    "from": "from perdure.objects import store",
    "name": "from perdure.objects.store import Store",
    "relative": "from .objects.store import Store",
    "relative_package": "from . import objects",
    "hidden": "def open():\n    from perdure.objects.store import Store\n    return Store",
    "typing": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from perdure.objects import store",
    "by_name": "import importlib\nstore = importlib.import_module('perdure.objects.store')",
    "by_relative_name": "from importlib import import_module\nstore = import_module('.objects.store', __package__)",
    "by_dunder": "store = __import__('perdure.objects.store')",
    "front_door_by_name": "house = __import__('perdure')",
    "table": "import importlib\nNAMES = {'s': 'perdure.objects'}\ndef get(n): importlib.import_module(NAMES[n])",
    "front_door": "import perdure",
    "through_front_door": "from perdure import make_store",
    "other_floor_above": "import perdure.cli",
}


def test_upward_imports_are_found_in_every_shape(tmp_path):
    for shape, text in UPWARD.items():
        house = build(tmp_path / shape, {"ids.py": text, "objects/store.py": "class Store: pass", "cli.py": ""})
        assert upward_imports(house), shape
        assert all(line.startswith("perdure.ids imports ") for line in upward_imports(house)), shape


def test_downward_imports_are_allowed(tmp_path):
    text = "import pickle\nfrom perdure.errors import NotFound\nfrom perdure import errors\nfrom perdure.ids import Id"
    house = build(
        tmp_path,
        {"ids.py": "", "objects/store.py": text, "objects/views.py": "from perdure.objects.store import Store"},
    )
    assert house["perdure.objects.store"] == {"perdure.errors", "perdure.ids"}
    assert upward_imports(house) == []
    assert circles(house) == []


def test_wings_do_not_import_one_another(tmp_path):
    house = build(tmp_path, {"prevalence.py": "import perdure.flows.run", "flows/run.py": ""})
    assert upward_imports(house) == [
        "perdure.prevalence imports perdure.flows",
        "perdure.prevalence imports perdure.flows.run",
    ]


def test_faces_may_use_the_front_door_and_nobody_else(tmp_path):
    house = build(
        tmp_path,
        {"cli.py": "import perdure", "flows/run.py": "import perdure", "__main__.py": "from perdure.cli import main"},
    )
    assert upward_imports(house) == ["perdure.flows.run imports perdure"]


def test_modules_outside_of_the_floors_are_found(tmp_path):
    assert upward_imports(build(tmp_path, {"attic.py": ""})) == ["perdure.attic stands on no floor"]


def test_circles_are_found(tmp_path):
    hidden = "def later():\n    from perdure.records.frame import encode"
    house = build(tmp_path, {"records/frame.py": "import perdure.records.values", "records/values.py": hidden})
    assert circles(house) == [["perdure.records.frame", "perdure.records.values"]]


def test_circles_through_a_package_are_found(tmp_path):
    house = build(
        tmp_path,
        {
            "records/__init__.py": "from perdure.records.frame import encode",
            "records/frame.py": "from perdure.records import values",
            "records/values.py": "from perdure.records import encode",
        },
    )
    assert circles(house) == [["perdure.records", "perdure.records.frame", "perdure.records.values"]]


def test_packages_are_the_sum_of_what_they_import(tmp_path):
    house = build(
        tmp_path,
        {
            "records/__init__.py": "import perdure.records.seal",
            "records/seal.py": "",
            "records/frame.py": "import perdure.objects",
            "objects/__init__.py": "import perdure.records.values",
            "records/values.py": "",
        },
    )
    assert house["perdure.objects"] == {"perdure.records", "perdure.records.values"}
    assert upward_imports(house) == ["perdure.records.frame imports perdure.objects"]


def test_the_front_door_does_not_open_a_face(tmp_path):
    house = build(tmp_path, {"__init__.py": "from perdure.cli import main", "cli.py": "import perdure"})
    assert circles(house) == [["perdure", "perdure.cli"]]
