"""The page of promises: each has a test, each test is there, and is not one that is never run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "guide" / "promises.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISED = PAGE.partition("## What is not promised")[0]


def promises() -> list[str]:
    return re.findall(r"^- (.*?)(?=^- |^## |\Z)", PROMISED.partition("\n## ")[2], re.MULTILINE | re.DOTALL)


def test_each_promise_names_its_tests():
    assert len(promises()) > 20
    assert [promise for promise in promises() if not TEST.search(promise)] == []


@pytest.mark.parametrize(("path", "name"), sorted(set(TEST.findall(PAGE))))
def test_the_test_of_a_promise_is_there_and_is_run(path, name):
    found = [
        node
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.Assign))
        and name in (getattr(node, "name", ""), *(getattr(target, "id", "") for target in getattr(node, "targets", ())))
    ]
    assert len(found) == 1
    marks = [ast.unparse(mark) for mark in getattr(found[0], "decorator_list", ())]
    assert not [mark for mark in marks if "skip" in mark or "xfail" in mark]
