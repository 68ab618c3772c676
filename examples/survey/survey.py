"""Surveys Python files: one job for each file counts what is in it, and one job tallies."""

import ast
import warnings
from collections import Counter
from pathlib import Path

from perdure import flow, job


def statements(node):
    """Every statement in a module, function or class, however deep: what is looked for is never an expression."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, part, ()):
            yield child
            yield from statements(child)


@job
def parse(path: str) -> dict:
    """Count the lines, functions, classes and imports of one file."""
    file = Path(path)
    source = file.read_bytes()
    page = {"lines": source.count(b"\n"), "functions": 0, "classes": 0, "imports": [], "finding": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source, file.name)
        except (SyntaxError, ValueError) as error:
            what = getattr(error, "msg", error)
            page["finding"] = f"{file.parent.name}/{file.name}: {what}"
            return page
    for node in statements(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            page["functions"] += 1
        elif isinstance(node, ast.ClassDef):
            page["classes"] += 1
        elif isinstance(node, ast.Import):
            page["imports"] += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            page["imports"].append(node.module.partition(".")[0])
    return page


@job
def tally(pages: list[dict]) -> dict:
    """Add up what was counted."""
    imports = Counter(name for page in pages for name in page["imports"])
    return {
        "files": len(pages),
        "lines": sum(page["lines"] for page in pages),
        "functions": sum(page["functions"] for page in pages),
        "classes": sum(page["classes"] for page in pages),
        "imports": imports.total(),
        "most imported": dict(imports.most_common(8)),
        "findings": [page["finding"] for page in pages if page["finding"]],
    }


@flow
def survey(*folders: str):
    """Survey every Python file below the folders, but for installed packages."""
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))]
    return tally([parse(str(file)) for file in files if "site-packages" not in file.parts])
