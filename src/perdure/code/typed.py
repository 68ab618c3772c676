"""What was typed at a prompt or in a notebook, as a text that can be run again elsewhere: source first, else by value.

- Source: the cells that functions and classes come from, as `linecache` has them, and the imports that they use.
- Where a class or function has no source, or uses other names of the session, all of them are kept by value, if
  `cloudpickle` is installed: that is byte code, and what its names stood for; the same Python loads it again.
- Without `cloudpickle` the source that there is counts.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from perdure.code.values import BY_VALUE, INTERACTIVE, UNKNOWN
from perdure.errors import ClassNotFound
from perdure.pickling.classes import MAIN


def describe(name: str, globals_: Mapping[str, Any], cells: list[str]) -> tuple[str, str]:
    """The origin and the text of what was typed in a module; `cells` are those that functions come from, in order."""
    defined = {
        key: value
        for key, value in globals_.items()
        if isinstance(value, (type, FunctionType)) and value.__module__ == globals_.get("__name__") == name
    }
    text = "\n".join(cells)
    imports, missing = _needs(text, globals_, defined) if text else ("", True)
    if missing and name == MAIN and defined:
        by_value = _by_value(defined)
        if by_value:
            return BY_VALUE, by_value
    return (INTERACTIVE, imports + text) if text else (UNKNOWN, "")


def restored(text: str, module: ModuleType, record: str) -> None:
    """Put what was kept by value into a module; raises `ClassNotFound` in another Python than the one that kept it."""
    head, _, rest = text.partition("\n")
    if head != _head():
        raise ClassNotFound(
            f"{record} keeps what was typed at a prompt by value, as byte code of {head.rpartition(': ')[2]}; this is"
            f" {_python()}.",
            hint="Load it with that Python, and save it from a module.",
            path=module.__name__,
        )
    import cloudpickle  # type: ignore[import-untyped]  # `pip install 'perdure[notebook]'`

    found: dict[str, Any] = cloudpickle.loads(base64.b64decode(rest))
    for value in found.values():
        value.__module__ = module.__name__
    vars(module).update(found)


def _by_value(defined: Mapping[str, Any]) -> str:
    try:
        import cloudpickle
    except ImportError:
        return ""

    code_reduction: Any = cloudpickle.Pickler.dispatch_table[CodeType]

    class Nameless(cloudpickle.Pickler):  # type: ignore[misc]  # it is untyped
        """Leaves the name of the file out of byte code: it may be the path of a directory of the user's."""

        dispatch_table = ChainMap(
            {CodeType: lambda code: code_reduction(code.replace(co_filename="<typed>"))},
            cloudpickle.Pickler.dispatch_table,
        )

    def pickled(value: Any) -> bytes:
        file = io.BytesIO()
        Nameless(file, protocol=5).dump(value)
        return file.getvalue()

    kept = {}
    for key, value in sorted(defined.items()):
        try:
            pickled(value)
        except Exception:  # noqa: BLE001  # what it refers to may be anything; the others are kept all the same
            continue
        kept[key] = value
    return f"{_head()}\n{base64.b64encode(pickled(kept)).decode('ascii')}" if kept else ""


def _head() -> str:
    return f"# by value: {_python()}"


def _python() -> str:
    return f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"


def _needs(text: str, globals_: Mapping[str, Any], defined: Mapping[str, Any]) -> tuple[str, bool]:
    """The imports that the text uses and does not make itself, one a line; whether it needs anything else."""
    import ast
    import builtins
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree, code = ast.parse(text), compile(text, "<typed>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return "", True
    made = set(_bound(tree.body))
    lines, missing = set(), bool(defined.keys() - made)
    for used in sorted(_names(code) - made):
        if used not in globals_ or hasattr(builtins, used):
            continue
        line = _import_of(used, globals_[used])
        if line:
            lines.add(line)
        else:
            missing = True
    return "".join(f"{line}\n" for line in sorted(lines)), missing


def _bound(statements: list[Any]) -> Iterator[str]:
    """The names that statements at the top level bind."""
    import ast

    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        else:
            yield from (
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )


def _names(code: CodeType) -> set[str]:
    """Every name that the code may look up in its globals (attributes are among them: they are met in vain)."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _import_of(name: str, value: Any) -> str:
    """The statement that gives the name this value; "" where there is none."""
    if isinstance(value, ModuleType):
        module = value.__name__
        return f"import {module}" if module == name else f"import {module} as {name}"
    origin, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(origin, str) or origin == MAIN or not isinstance(qualname, str) or "." in qualname:
        return ""
    if getattr(sys.modules.get(origin), qualname, None) is not value:
        return ""
    return f"from {origin} import {qualname}" + ("" if qualname == name else f" as {name}")


def cells_of(codes: Iterator[CodeType]) -> list[str]:
    """The texts that code was typed in, in order."""
    import linecache

    names = dict.fromkeys(code.co_filename for code in codes)
    texts = ("".join(linecache.getlines(name)) for name in names if name.startswith("<") or not os.path.exists(name))
    return [text for text in texts if text]
