"""Whether commands do the same on every replay: a look at their source, and a replay that is compared.

- The look finds calls that ask the clock, chance, the environment, files, the network; in what the command calls of the
  same module, too. It cannot see everything: it is a hint, never a proof.
- The comparison walks the system in memory and one that is replayed from the journal side by side, and halves the
  journal until it has the first command that differs.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from perdure.errors import ReplayDiffers
from perdure.pickling.compare import same_state
from perdure.prevalence.folder import Folder
from perdure.prevalence.inspecting import commands_of
from perdure.prevalence.recovery import Limits, recover
from perdure.records.seal import Key

_MODULES = {
    "time": "asks the clock", "random": "asks for chance", "secrets": "asks for chance", "uuid": "asks for chance",
    "os": "asks the environment", "posix": "asks the environment", "environ": "asks the environment",
    "platform": "asks the environment", "socket": "talks to the network", "urllib": "talks to the network",
    "http": "talks to the network", "requests": "talks to the network", "subprocess": "starts a process",
    "shutil": "touches files", "tempfile": "touches files", "threading": "starts a thread",
    "locale": "asks the environment",
    "numpy.random": "asks for chance",
}  # fmt: skip
_HARMLESS = {"time.struct_time", "os.path.join", "os.fspath", "uuid.UUID", "os.sep", "os.PathLike", "random.Random"}
_CLOCK = {"now", "utcnow", "today"}  # of datetime's classes
_BUILTINS = {"open": "touches files", "input": "asks a person", "print": "writes", "id": "depends on addresses",
             "hash": "differs from process to process for texts"}  # fmt: skip
_ADVICE = {"asks the clock": "prevalence.now()", "asks for chance": "prevalence.random() or prevalence.uuid4()"}


class Suspect(NamedTuple):
    """A call in a command that may give something else on replay."""

    function: str
    file: str
    line: int
    call: str
    why: str

    def __str__(self) -> str:
        better = _ADVICE.get(self.why, "pass what it gives to the command as an argument")
        return f"{self.file}:{self.line}: {self.function} calls {self.call}, which {self.why}; rather {better}."


def check(*commands: Any) -> list[Suspect]:
    """What looks as if it were not the same on every replay, in these commands: classes of roots, methods, classes
    with `apply`. An empty list is no proof."""
    found: list[Suspect] = []
    seen: set[Any] = set()
    for each in commands:
        for function in _functions_of(each):
            found += _look(function, each if isinstance(each, type) else None, seen)
    return sorted(set(found), key=lambda suspect: (suspect.file, suspect.line, suspect.call))


def _functions_of(command: Any) -> Iterator[FunctionType]:
    if isinstance(command, type):
        for value in vars(command).values():
            marked = getattr(value, "__perdure_command__", None)
            if marked is not None and len(marked) == 3:
                yield marked[2]
        apply = getattr(command, "apply", None)
        if isinstance(apply, FunctionType):
            yield apply
    else:
        marked = getattr(command, "__perdure_command__", None)
        yield marked[2] if marked is not None else command


def _look(function: FunctionType, owner: type[Any] | None, seen: set[Any]) -> list[Suspect]:
    if function in seen:
        return []
    seen.add(function)
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = []
    file = inspect.getsourcefile(function) or "?"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called, spelled = _resolve(node.func, function, owner)
            why = _why(called, spelled)
            if why:
                found.append(Suspect(function.__qualname__, file, first + node.lineno - 1, f"{spelled}()", why))
            elif isinstance(called, FunctionType) and called.__module__ == function.__module__:
                inner = getattr(called, "__perdure_command__", (0, 0, called))[2]
                found += _look(inner, owner, seen)
        elif isinstance(node, ast.Attribute) and node.attr == "environ":
            found.append(
                Suspect(function.__qualname__, file, first + node.lineno - 1, ast.unparse(node), "asks the environment")
            )
    return found


def _resolve(node: ast.expr, function: FunctionType, owner: type[Any] | None) -> tuple[Any, str]:
    """What a call calls, as far as names tell, and how it is spelled."""
    spelled = ast.unparse(node)
    steps = []
    while isinstance(node, ast.Attribute):
        steps.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None, spelled
    if node.id == "self" and owner is not None:
        found: Any = owner
    elif node.id in function.__globals__:
        found = function.__globals__[node.id]
    elif node.id in _BUILTINS and node.id not in function.__code__.co_varnames:
        return node.id, spelled
    else:
        return None, spelled
    for step in reversed(steps):
        found = inspect.getattr_static(found, step, None) if isinstance(found, type) else getattr(found, step, None)
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    return found, spelled


def _why(called: Any, spelled: str) -> str:
    if isinstance(called, str):
        return _BUILTINS[called]
    if called is None or isinstance(called, ModuleType):
        return ""
    last = spelled.rpartition(".")[2]
    owner = getattr(called, "__self__", None)
    if last in _CLOCK and (getattr(called, "__objclass__", owner) is not None or "date" in spelled):
        return "asks the clock" if "date" in f"{owner!r}{called!r}" else ""
    module = getattr(called, "__module__", None) or type(owner).__module__ or ""
    if f"{module}.{getattr(called, '__qualname__', '')}" in _HARMLESS:
        return ""
    return _MODULES.get(module) or _MODULES.get(module.partition(".")[0], "")


def compare_with_replay(folder: Folder, key: Key, root: Any, sequence: int) -> None:
    """Raise `ReplayDiffers` unless a replay gives what is in memory; the error names the first command that differs."""
    _compare(folder, key, sequence, lambda: root)


def compare_replays(folder: Folder, key: Key | None) -> int:
    """Replay twice from the oldest snapshot, and compare; gives the last command, or raises `ReplayDiffers`."""
    last = recover(folder, key).sequence
    _compare(folder, key, last, lambda: _replayed(folder, key, last))
    return last


def _replayed(folder: Folder, key: Key | None, until: int) -> Any:
    return recover(folder, key, limits=Limits(until=until), oldest=True).root


def _compare(folder: Folder, key: Key | None, last: int, other: Callable[[], Any]) -> None:
    if _same(_replayed(folder, key, last), other()):
        return
    low, high = 0, last
    if _same(_replayed(folder, key, last), _replayed(folder, key, last)):
        raise ReplayDiffers(
            "Replaying gives another state than the one in memory, and the same one each time.",
            hint="Something has changed the system without a command, or a command depends on what is outside.",
            path=folder.directory,
            sequence=last,
        )
    while high - low > 1:
        middle = (low + high) // 2
        if _same(_replayed(folder, key, middle), _replayed(folder, key, middle)):
            low = middle
        else:
            high = middle
    names = {told.sequence: told.name for told in commands_of(folder, key, after=high - 1)}
    raise ReplayDiffers(
        f"Command {high} ({names.get(high, '?').rpartition(':')[2]}) does not do the same when it is replayed.",
        hint="perdure.prevalence.check(…) looks at its source; ask perdure.prevalence for time, chance and UUIDs.",
        path=folder.directory,
        sequence=high,
    )


def _same(one: Any, other: Any) -> bool:
    return same_state(one, other, lambda _: None)
