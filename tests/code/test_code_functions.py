"""Digests of functions change with what a function does, not with how it is written down."""

from __future__ import annotations

import functools
import linecache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.code.functions import changed_functions, function_digest

PLAIN = "def job(x):\n    return x + 1\n"

SAME = [
    "# a comment\n\n\ndef job(x):  # why\n\n    # another\n    return x + 1\n",
    "def job( x ):\n        return (x+1)\n",
    "import os\n\ndef other(): pass\n\ndef job(x): return x + 1\n",
    "if True:\n    def job(\n        x,\n    ):\n        return (\n            x\n            + 1\n        )\n",
]
OTHER = [
    "def job(x):\n    return x + 2\n",
    "def job(x):\n    return x + 1.0\n",
    "def job(x):\n    return x + True\n",
    "def job(x, y=1):\n    return x + 1\n",
    "def job(y):\n    return y + 1\n",
    "async def job(x):\n    return x + 1\n",
    "def job(x: int):\n    return x + 1\n",
    "import functools\n@functools.cache\ndef job(x):\n    return x + 1\n",
    "import functools\n@functools.lru_cache(maxsize=7)\ndef job(x):\n    return x + 1\n",
    "import functools\n@functools.lru_cache(maxsize=8)\ndef job(x):\n    return x + 1\n",
]


@pytest.fixture
def digest(project):
    count = iter(range(1000))

    def digest_of(text, name="job"):
        module = f"functions{next(count)}"
        project.write(f"{module}.py", text)
        found = project.load(module)
        for part in name.split("."):
            found = getattr(found, part)
        return function_digest(found)

    return digest_of


@pytest.mark.parametrize("text", SAME)
def test_the_same_function(digest, text):
    assert digest(text) == digest(PLAIN)


def test_other_functions_all_differ(digest):
    assert len({digest(text) for text in [PLAIN, *OTHER]}) == len(OTHER) + 1


def test_it_is_the_same_in_every_process(project):
    project.write("job.py", "def job(x):\n    return x in {'a', 'b', 'c'}\n")
    script = "import job; from perdure.code.functions import function_digest as f; print(f(job.job))"
    typed = f"exec({PLAIN!r}); from perdure.code.functions import function_digest as f; print(f(job))"
    in_set = 'exec(\'def job(x): return x in {1, "b", "c", "d"}\');'
    for text in (script, typed, in_set + typed.partition(";")[2]):
        assert len({project.run("-c", text, PYTHONHASHSEED=str(seed)) for seed in (1, 2, 3)}) == 1


def test_methods_lambdas_partials_and_classes(digest):
    text = "class Job:\n    def run(self):\n        return 1\n    @staticmethod\n    def make():\n        return 2\n"
    moved = "\n\n" + text.replace("        return 2", "        return 2  # two")
    for name in ("Job", "Job.run", "Job.make"):
        assert digest(text, name) == digest(moved, name)
        assert digest(text, name) != digest(text.replace("return 1", "return 3").replace("return 2", "return 4"), name)
    assert digest("f = lambda x: x", "f") == digest("\nf = lambda x:   x  # same", "f")
    assert digest("f = lambda x: x", "f") != digest("f = lambda x: -x", "f")
    assert digest(PLAIN + "import functools\np = functools.partial(job, 1)\n", "p") == digest(PLAIN)


def test_two_lambdas_of_one_line(digest):
    text = "f, g = (lambda x: x), (lambda x: -x)\n"
    assert digest(text, "f") != digest(text, "g")


def test_below_decorators_that_wrap(digest):
    wrap = (
        "import functools\n"
        "def wrap(f):\n    @functools.wraps(f)\n    def inner(*a): return f(*a)\n    return inner\n"
        "class Definition:\n    def __init__(self, f): functools.update_wrapper(self, f)\n"
        "    def __call__(self, *a): return self.__wrapped__(*a)\n"
    )
    for decorator in ("@wrap\n", "@Definition\n"):
        one, two = (digest(wrap + decorator + f"def job(x):\n    return {number}\n") for number in (1, 2))
        assert one != two
    assert digest(wrap + "@wrap\n" + PLAIN) != digest(wrap + PLAIN)


def test_without_source_the_byte_code_counts():
    def typed(text):
        names = {}
        exec(text, names)
        return function_digest(names["job"])

    assert typed(PLAIN) == typed("\n\n" + PLAIN)
    assert typed(PLAIN) != typed(PLAIN.replace("1", "2"))
    nested = "def job():\n    def inner():\n        return 1\n    return inner\n"
    assert typed(nested) != typed(nested.replace("return 1", "return 2"))


def test_what_was_typed_in_a_cell_has_source(monkeypatch):
    def typed(text, name):
        names = {"__name__": "typed_nowhere"}
        monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
        exec(compile(text, name, "exec"), names)
        return function_digest(names["job"])

    assert typed(PLAIN, "<cell 8>") == typed("# comment\n" + PLAIN, "<cell 9>")


def test_a_file_that_was_edited_since_is_not_taken_for_the_function(project):
    path = project.write("edited.py", PLAIN)
    module = project.load("edited")
    path.write_text(PLAIN.replace("1", "2"))
    wrong = project.write("other_edited.py", PLAIN.replace("1", "2"))
    assert wrong.exists()
    assert function_digest(module.job) != function_digest(project.load("other_edited").job)


def test_what_has_no_code_has_the_digest_of_its_name():
    assert function_digest(len) == function_digest(len) != function_digest(print)
    assert function_digest(functools.partial(len)) == function_digest(len)


def test_docstrings_and_annotations_count(digest):
    assert digest('def job(x):\n    "Says."\n    return x + 1\n') != digest(PLAIN)


@given(st.lists(st.sampled_from(["", "# note", "    ", "\t# tab"]), max_size=5))
def test_lines_without_code_never_count(lines):
    text = "\n".join(["def job(x):", *lines, "    y = x", *lines, "    return y", ""])

    def of(text):
        name = f"<hypothesis {text!r}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        names = {"__name__": "nowhere"}
        exec(compile(text, name, "exec"), names)
        try:
            return function_digest(names["job"])
        finally:
            del linecache.cache[name]

    assert of(text) == of("def job(x):\n    y = x\n    return y\n")


def test_changed_functions():
    assert changed_functions({"a": "1", "b": "2", "gone": "3"}, {"b": "9", "a": "1", "new": "4"}) == ["b"]
    assert changed_functions({"b": "1", "a": "1"}, {"a": "2", "b": "2"}) == ["a", "b"]
