"""The closure of own modules is what the code uses, in every process the same."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

from perdure.code.modules import called_imports, find_closure, written_imports
from perdure.code.sources import importable_name, read_source
from perdure.code.values import BINARY, INTERACTIVE, UNKNOWN


def names(*modules):
    return sorted(find_closure(modules).sources)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a.b as c, d", ["a.b", "d"]),
        ("from a import b, c as d  # why", ["a", "a.b", "a.c"]),
        ("from a import (  # all\n    b,  # first)\n    c,\n)", ["a", "a.b", "a.c"]),
        ("from a import b, \\\n    c", ["a", "a.b", "a.c"]),
        ("from a import *", ["a"]),
        ("def f():\n\timport late", ["late"]),
        ("try: import a\nexcept ImportError: pass", ["a"]),
        ("x = 1; import a; import b", ["a", "b"]),
        ("from . import near", ["shop", "shop.near"]),
        ("from .near import thing", ["shop.near", "shop.near.thing"]),
        ("from .. import far", []),
        ("# import a\nimportant = 1\nx.import_module('b')", []),
    ],
)
def test_written_imports(text, found):
    assert list(written_imports(text, "shop.orders", False)) == found


def test_calls_that_import_by_a_name_that_is_written_out():
    text = """
    importlib.import_module('a')
    import_module( "b.c" )
    il.import_module(name="d")
    __import__('e', globals())
    import_module(
        ".near", __package__)
    import_module("f" + name), import_module(name), import_module(f"g{name}"), reimport_modules("h")
    """
    found = ["a", "b.c", "d", "e", "shop.near"]
    assert list(called_imports(text, "shop.orders", False)) == found
    assert list(called_imports("import_module('.near', __name__)", "shop", True)) == ["shop.near"]
    assert list(called_imports("import_module('...far', 'x')", "shop", True)) == []


def test_modules_that_calls_import(project):
    project.write("one.py", "import importlib\ndef job():\n    return importlib.import_module('late.part')\n")
    project.write("late/__init__.py", "")
    project.write("late/part.py", "import two\n")
    project.write("two.py", "")
    project.load("one")
    assert names("one") == ["late", "late.part", "one", "two"]


def test_relative_imports_of_a_package():
    assert list(written_imports("from . import near\nfrom .a import b", "shop", True)) == [
        *("shop", "shop.near"),
        *("shop.a", "shop.a.b"),
    ]


def test_modules_that_are_used_by_globals_and_by_text(project):
    project.write("one.py", "import two\nfrom three import value\ndef job():\n    import five\n")
    project.write("two.py", "import json, os.path\n")
    project.write("three.py", "import importlib\nfour = importlib.import_module('fo' + 'ur')\nvalue = 3\n")
    project.write("four.py", "")
    project.write("five.py", "")
    project.write("unrelated.py", "")
    project.load("unrelated")
    project.load("one")
    assert names("one") == ["five", "four", "one", "three", "two"]


def test_classes_and_functions_lead_to_their_modules(project):
    project.write("one.py", "import importlib\nJob = importlib.import_module('tw' + 'o').Job\n")
    project.write("two.py", "class Job: pass\n")
    project.load("one")
    assert names("one") == ["one", "two"]


def test_packages_above_are_run_too_and_other_submodules_are_not_used(project):
    project.write("shop/__init__.py", "")
    project.write("shop/orders.py", "")
    project.write("shop/other.py", "")
    project.write("main_job.py", "import shop.orders\n")
    for name in ("shop", "shop.orders", "shop.other", "main_job"):
        project.load(name)
    assert names("main_job") == ["main_job", "shop", "shop.orders"]


def test_a_submodule_that_is_only_spelled(project):
    project.write("shop/__init__.py", "")
    project.write("shop/orders.py", "")
    project.write("main_job.py", "import shop as s\ndef job(): return s.orders\n")
    for name in ("shop", "shop.orders", "main_job"):
        project.load(name)
    assert names("main_job") == ["main_job", "shop", "shop.orders"]


def test_circles(project):
    project.write("one.py", "import two\n")
    project.write("two.py", "import one\n")
    project.load("one")
    closure = find_closure(["one"])
    assert closure.uses == {"one": ("two",), "two": ("one",)}


def test_a_chain_of_2000_modules(project):
    for number in range(2000):
        project.write(f"link{number}.py", f"def job():\n    import link{number + 1}\n")
    project.load("link0")
    assert len(names("link0")) == 2000


def test_the_closure_does_not_depend_on_what_is_loaded(project):
    project.write("one.py", "def job():\n    import two, lib.part\n")
    project.write("two.py", "")
    project.write("lib/__init__.py", "")
    project.write("lib/part.py", "from lib import other")
    project.write("lib/other.py", "")
    project.load("one")
    before = find_closure(["one"])
    project.load("lib.part")
    after = find_closure(["one"])
    assert before.uses == after.uses
    assert sorted(after.sources) == ["lib", "lib.other", "lib.part", "one", "two"]
    assert [source.digest for source in before.sources.values()] == [s.digest for s in after.sources.values()]


def test_what_is_not_the_users_own(project):
    project.write("one.py", "import json, numpy, perdure.errors, perdure\nfrom perdure.errors import NotFound\n")
    project.load("one")
    closure = find_closure(["one", "json", "numpy.linalg", "sys", "perdure.errors", "builtins", "json.decoder"])
    assert sorted(closure.sources) == ["one"]
    assert "numpy" in closure.outside


def test_installed_into_a_directory_of_its_own(project):
    project.write("vendor/wheel.py", "version = 1\n")
    project.write("vendor/wheel-2.5.dist-info/RECORD", "wheel.py,,\nwheel-2.5.dist-info/RECORD,,\n")
    project.write("vendor/loose.py", "")
    project.write("one.py", "import wheel, loose\n")
    sys.path.insert(0, str(project.root / "vendor"))
    try:
        project.load("one")
        assert names("one") == ["loose", "one"]
    finally:
        sys.path.remove(str(project.root / "vendor"))


def test_a_module_that_is_nowhere(project):
    source = find_closure(["no_such_module"]).sources["no_such_module"]
    assert (source.origin, source.digest, source.text) == (UNKNOWN, "", "")


def test_objects_in_globals_are_left_alone(project):
    project.write(
        "one.py",
        "class Prickly:\n"
        "    def __getattribute__(self, name): raise RuntimeError(name)\n"
        "    def __eq__(self, other): raise RuntimeError('eq')\n"
        "    __hash__ = None\n"
        "class Meta(type):\n"
        "    def __getattribute__(cls, name): raise RuntimeError(name)\n"
        "    def __eq__(cls, other): raise RuntimeError('eq')\n"
        "    __hash__ = None\n"
        "class Odd(metaclass=Meta): pass\n"
        "thing = Prickly()\n",
    )
    project.load("one")
    assert names("one") == ["one"]


def test_the_text_stays_that_of_the_import(project):
    path = project.write("one.py", "x = 1\n")
    project.load("one")
    assert read_source("one").text == "x = 1\n"
    path.write_text("x = 22\n")
    assert read_source("one").text == "x = 1\n"
    importlib.reload(sys.modules["one"])
    assert read_source("one").text == "x = 22\n"
    path.write_text("x = 333\n")
    project.load("one")
    assert read_source("one").text == "x = 333\n"


def test_a_file_that_was_edited_before_the_first_capture(project):
    path = project.write("one.py", "def job():\n    return 1\n")
    project.load("one")
    assert read_source("one").exact
    project.write("two.py", "def job():\n    return 1\n")
    project.load("two")
    (path.parent / "two.py").write_text("def job():\n    return 2\n")
    assert not read_source("two").exact
    (path.parent / "three.py").write_text("def job():\n    return 1\n")
    project.load("three")
    (path.parent / "three.py").write_text("def job(:\n")
    assert not read_source("three").exact


def test_encodings_and_line_ends(project):
    (project.root / "latin.py").write_bytes(b"# coding: latin-1\r\nname = '\xe9'\r\n")
    (project.root / "marked.py").write_bytes(b"\xef\xbb\xbfname = 1\n")
    project.load("latin")
    project.load("marked")
    assert read_source("latin").text == "# coding: latin-1\nname = 'é'\n"
    assert read_source("latin").raw == b"# coding: latin-1\r\nname = '\xe9'\r\n"
    assert read_source("marked").text == "name = 1\n"


def test_line_ends_do_not_change_the_digest(project):
    (project.root / "one.py").write_bytes(b"x = 1\r\n")
    (project.root / "two.py").write_bytes(b"x = 1\n")
    assert (
        read_source("one", str(project.root / "one.py")).digest
        == read_source("two", str(project.root / "two.py")).digest
    )


def test_compiled_code_without_source(project):
    import py_compile

    py_compile.compile(str(project.write("one.py", "x = 1\n")), cfile=str(project.root / "one.pyc"))
    (project.root / "one.py").unlink()
    project.load("one")
    source = read_source("one")
    assert (source.origin, source.text, len(source.digest)) == (BINARY, "", 64)


def test_imported_from_an_archive(project):
    import zipfile

    with zipfile.ZipFile(project.root / "lib.zip", "w") as archive:
        archive.writestr("zipped.py", "x = 'in an archive'\n")
    sys.path.insert(0, str(project.root / "lib.zip"))
    try:
        project.load("zipped")
        assert read_source("zipped").text == "x = 'in an archive'\n"
    finally:
        sys.path.remove(str(project.root / "lib.zip"))


def test_what_was_typed_in_a_notebook(monkeypatch):
    import linecache

    module = types.ModuleType("typed_here")
    cells = {"<cell 1>": "def first():\n    return 1\n", "<cell 2>": "class Job:\n    def run(self): return first()\n"}
    for name, text in cells.items():
        monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
        exec(compile(text, name, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "typed_here", module)
    source = find_closure(["typed_here"]).sources["typed_here"]
    assert source.origin == INTERACTIVE
    assert source.text == "\n".join(cells.values())


def test_the_running_script_under_its_importable_name(project):
    text = "from perdure.code.sources import importable_name, find_loaded\nprint(importable_name('__main__'))\n"
    project.write("survey.py", text + "assert find_loaded('survey').__name__ == '__main__'\n")
    project.write("shop/__init__.py", "")
    project.write("shop/__main__.py", text)
    project.write("shop/tool.py", text)
    assert project.run("survey.py") == "survey"
    assert project.run("-m", "shop") == "shop.__main__"
    assert project.run("-m", "shop.tool") == "shop.tool"
    assert project.run("-c", text) == "__main__"
    assert importable_name("one") == "one"
