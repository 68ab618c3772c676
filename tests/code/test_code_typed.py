"""What was typed at a prompt or in a notebook loads in another process: by its source, else by value."""

from __future__ import annotations

import base64
import linecache
import subprocess
import sys
import types

import pytest

import perdure
from perdure.code.archives import Archive
from perdure.code.capture import capture
from perdure.code.modules import find_closure
from perdure.code.typed import describe, restored
from perdure.code.values import BY_VALUE, INTERACTIVE, UNKNOWN

SESSION = """
import linecache, sys
import perdure
def cell(number, text):
    name = f"<cell {number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), globals())
"""
CELLS = """
cell(1, "import math as m\\nfrom collections import Counter")
cell(2, "class Point(perdure.Persistable):\\n    def size(self): return m.hypot(self.x, double(self.y))")
cell(3, "def double(x):\\n    return Counter([x, x])[x] * x")
del cell
"""
SAVE = """
point = Point()
point.x, point.y = 3, 2
with perdure.make_store(sys.argv[1]) as store:
    store.roots["point"] = point
    store.roots["call"] = double
"""
LOAD = """
import sys
import perdure
with perdure.make_store(sys.argv[1], code="archived") as store:
    point = store.roots["point"]
    print(point.size(), type(point).__module__.startswith("typed_"), store.roots["call"](4))
    point.x = 0
    store.save(point)
"""


def python(text, *arguments):
    command = [sys.executable, "-c", text, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/typed.db"


def origins(url):
    with perdure.make_store(url) as store:
        codes = [store.load(id_) for id_ in store.list(all=True) if id_.startswith("Code")]
        return {module.origin for code in codes for module in code.state.modules if module.name == "__main__"}


def test_what_was_typed_in_cells_loads_from_its_source(url):
    python(SESSION + CELLS + SAVE, url)
    assert origins(url) == {INTERACTIVE}
    assert python(LOAD, url) == "5.0 True 8"
    assert python(LOAD, url) == "4.0 True 8"  # it was saved under its new name, with its text


def test_what_was_typed_without_source_loads_by_value(url):
    prompt = "import perdure, sys, math as m\nfrom collections import Counter\nFACTOR = 2\n"
    prompt += "class Point(perdure.Persistable):\n    def size(self): return m.hypot(self.x, double(self.y))\n"
    prompt += "def double(x):\n    return x * FACTOR\n"
    python(prompt + SAVE, url)
    assert origins(url) == {BY_VALUE}
    assert python(LOAD, url) == "5.0 True 8"


def test_a_name_of_the_session_makes_it_go_by_value(url):
    python(SESSION + 'cell(0, "SCALE = 1")\n' + CELLS.replace("* x", "* x * SCALE") + SAVE, url)
    assert origins(url) == {BY_VALUE}
    assert python(LOAD, url) == "5.0 True 8"


def test_two_sessions_are_two_versions(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    python(SESSION + CELLS + SAVE, urls[0])
    python(SESSION + CELLS.replace("* x", "* x * 1") + SAVE, urls[1])
    text = "import sys, perdure\nfor url in sys.argv[1:]:\n    store = perdure.make_store(url, code='archived')\n"
    text += "    try: print(store.roots['point'].x)\n    except perdure.VersionClash as error: print(error.path)\n"
    assert python(text, *urls) == "3\n__main__"


def test_byte_code_of_another_python_is_refused():
    text = f"# by value: cpython 3.1\n{base64.b64encode(b'x').decode()}"
    with pytest.raises(perdure.ClassNotFound, match=r"cpython 3\.1; this is"):
        restored(text, types.ModuleType("typed_x"), "Code.1")


def test_without_cloudpickle_the_source_that_there_is_counts(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    module = {"__name__": "__main__"}
    exec("def f():\n    return LIMIT\nLIMIT = 1", module)
    assert describe("__main__", module, ["def f():\n    return LIMIT\n"]) == (
        INTERACTIVE,
        "def f():\n    return LIMIT\n",
    )
    assert describe("__main__", module, []) == (UNKNOWN, "")


def test_the_imports_that_the_source_uses_are_in_it(monkeypatch):
    module = types.ModuleType("typed_here")
    text = "def f(path):\n    return js.dumps(pathlib.Path(path).name)\n"
    exec("import json as js, pathlib", vars(module))
    monkeypatch.setitem(linecache.cache, "<cell>", (len(text), None, text.splitlines(keepends=True), "<cell>"))
    exec(compile(text, "<cell>", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "typed_here", module)
    source = find_closure(["typed_here"]).sources["typed_here"]
    assert source.text == f"import json as js\nimport pathlib\n{text}"
    state = capture(["typed_here"])
    assert Archive("Code.1", state, state.texts.get).text(state.modules[0]) == source.text


def test_no_path_is_in_what_goes_by_value(url, tmp_path):
    script = tmp_path / "not-a-name.py"  # a script that cannot be imported is a session, too
    script.write_text("import perdure, sys\nclass Point(perdure.Persistable): pass\ndef double(x): return x\n" + SAVE)
    subprocess.run([sys.executable, str(script), url], check=True)
    content = (tmp_path / "typed.db").read_bytes()
    assert str(script).encode() not in content
    assert base64.b64encode(str(tmp_path).encode())[4:20] not in content
