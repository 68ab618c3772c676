"""What changed between two code records: the functions and classes, and the lines.

- Only modules that one of the two names are compared. A text that is not to be had is said to be missing.
- A function has changed as `function_digest` sees it: comments, blank lines and formatting do not count.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from perdure.code.archives import Archive
from perdure.code.functions import describe_node
from perdure.code.values import BINARY, BY_VALUE, ModuleCode


class ModuleDiff(NamedTuple):
    """What changed in one module. `what` is `changed`, `new` or `gone`; `lines` are those of a unified diff.

    `definitions` name the functions and classes that are not the same: `Cart.total`, `Cart (new)`, `price (gone)`.
    """

    path: str
    what: str
    definitions: tuple[str, ...]
    lines: tuple[str, ...]


def differing_modules(old: Archive, new: Archive) -> list[ModuleDiff]:
    """What changed in each module, in the order of their names."""
    before, after = ({module.name: module for module in archive.state.modules} for archive in (old, new))
    found = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is not None and now is not None and was.digest == now.digest:
            continue
        what = "new" if was is None else "gone" if now is None else "changed"
        texts = [_text(old, was), _text(new, now)]
        path = next((each.path or each.name for each in (now, was) if each is not None), name)
        found.append(ModuleDiff(path, what, *_compared(path, texts[0], texts[1], (old.name, new.name))))
    return found


def _compared(
    path: str, was: str | None, now: str | None, names: tuple[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if was is None or now is None:
        missing = [name for name, text in zip(names, (was, now), strict=True) if text is None]
        return (), (f"(its text is not in {' nor in '.join(missing)})",)
    lines = difflib.unified_diff(
        was.splitlines(), now.splitlines(), f"{path} ({names[0]})", f"{path} ({names[1]})", lineterm="", n=3
    )
    return tuple(_changed_definitions(was, now)), tuple(_with_context(lines, was))


def _text(archive: Archive, module: ModuleCode | None) -> str | None:
    """The text of a module, "" where there is none to be had because it was not there; None where it is missing."""
    if module is None:
        return ""
    return None if module.origin in (BINARY, BY_VALUE) else archive.text(module)


def _changed_definitions(was: str, now: str) -> Iterator[str]:
    before, after = _definitions(was), _definitions(now)
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            yield f"{name} (gone)"
        elif name not in before:
            yield f"{name} (new)"
        elif before[name] != after[name]:
            yield name


def _definitions(text: str) -> dict[str, str]:
    """Functions and classes by qualified name, described without positions; of a class, all but its methods."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    return dict(_below(tree, ""))


def _below(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    for child in getattr(node, "body", []):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{child.name}", describe_node(child)
        elif isinstance(child, ast.ClassDef):
            functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            rest = [each for each in child.body if not isinstance(each, functions)]
            yield f"{prefix}{child.name}", describe_node([child.bases, child.keywords, child.decorator_list, rest])
            yield from _below(child, f"{prefix}{child.name}.")


def _with_context(lines: Iterator[str], was: str) -> Iterator[str]:
    """The lines, the head of each hunk with the definition that it begins in, as git shows it."""
    old = was.splitlines()
    for line in lines:
        if not line.startswith("@@ "):
            yield line
            continue
        start = int(line.split()[1].lstrip("-").partition(",")[0])
        above = (
            text
            for text in reversed(old[: max(start - 1, 0)])
            if text.lstrip().startswith(("def ", "class ", "async "))
        )
        context = next(above, "").strip()
        yield f"{line} {context}".rstrip()
