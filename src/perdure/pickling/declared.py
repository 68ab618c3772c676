"""What names in records mean in this process: stable names, declared renames and moves, registered classes.

- A name is that of a class, function or member as records spell it (`module:qualified.name`), or a stable name.
- A rename holds for what is nested in it, too; a move for everything below the module. The longest old name
  counts.
- They are followed until none applies; a circle is refused when it is declared, and nothing of it stays.
- What was nested into itself (`shop` to `shop.core`) is not nested again: names that begin with the new one stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from perdure.errors import InvalidRename, NameClash

MOST_KNOWN = 10_000  # names whose answer is remembered
MOST_STEPS = 100  # renames of one name, one after the other
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.([^\W\d]\w*|<locals>))*)?")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Versioned(Protocol):
    """What is declared of a class with a stable name; see `perdure.evolution`."""

    cls: type[Any]
    name: str
    version: int

    def adopt(self, cls: type[Any]) -> None:
        """Be of that class from now on."""

    def require_complete(self) -> None:
        """Raise `MissingUpgrade` where the steps do not lead to the present version."""

    def upgraded(self, state: Any, version: int) -> Any:
        """The state of an older version as the class has it now."""


class Declared:
    """The declarations of this process. `active` is false as long as there is none."""

    def __init__(self) -> None:
        self.active = False
        self.known: dict[str, Any] = {}  # stable, former and registered names -> what they mean
        self.renames: dict[str, str] = {}
        self.moves: dict[str, str] = {}
        self.fitting: dict[tuple[str, str, int], tuple[Any, str, str]] = {}  # layouts that were seen to fit
        self._current: dict[str, str] = {}  # names that were asked about

    def clear(self) -> None:
        """Forget everything that was declared: for tests."""
        self.known, self.renames, self.moves = {}, {}, {}
        self._note()

    def current(self, name: str) -> str:
        """The name as it is now, all renames and moves followed; it may be one of `known`."""
        found = self._current.get(name)
        if found is None:
            found = self._followed(name)
            if len(self._current) < MOST_KNOWN:
                self._current[name] = found
        return found

    def _followed(self, name: str) -> str:
        for _ in range(MOST_STEPS):
            if name in self.known:
                return name
            following = self._following(name)
            if following is None:
                return name
            name = following
        raise InvalidRename(f"The renames of {name} lead round in a circle.", hint="Take one of them away.", path=name)

    def _following(self, name: str) -> str | None:
        module, colon, qualname = name.partition(":")
        head = qualname
        while self.renames:
            old = f"{module}{colon}{head}"
            new = self.renames.get(old)
            if new is not None and not _is_nested_in_itself(name, old, new):
                return new + qualname[len(head) :]
            head = head.rpartition(".")[0]
            if not head:
                break
        head = module if colon else ""
        while self.moves and head:
            new = self.moves.get(head)
            if new is not None and not _is_nested_in_itself(module, head, new):
                return f"{new}{module[len(head) :]}{colon}{qualname}"
            head = head.rpartition(".")[0]
        return None

    def declare(self, renames: Mapping[str, str], moves: Mapping[str, str]) -> None:
        """Add them all, or none: raises `InvalidRename`."""
        for names, pattern, there in ((renames, _NAME, self.renames), (moves, _MODULE, self.moves)):
            for old, new in names.items():
                _check(old, pattern)
                _check(new, pattern)
                if pattern is _NAME and ":" not in old and ":" not in new:
                    raise InvalidRename(
                        f"{old} and {new} name no class.",
                        hint="Write module:Name; or move_module(old, new) for a module.",
                    )
                if there.get(old, new) != new:
                    raise InvalidRename(
                        f"{old} is renamed to {new}, but it was declared to be {there[old]} before.",
                        hint="One old name means one new one; take one of the two away.",
                        path=old,
                    )
        before = self.renames, self.moves
        self.renames, self.moves = {**self.renames, **renames}, {**self.moves, **moves}
        try:
            self._refuse_circles()
        except InvalidRename:
            self.renames, self.moves = before
            raise
        self._note()

    def _refuse_circles(self) -> None:
        for old, new in (*self.renames.items(), *self.moves.items()):
            if old == new:
                raise InvalidRename(f"{old} is renamed to itself.", hint="Take the rename away.", path=old)
        for name in (*self.renames, *self.renames.values()):
            self._followed(name)
        for module in (*self.moves, *self.moves.values()):
            self._followed(f"{module}:_")

    def know(self, names: Iterable[str], meaning: Any) -> None:
        """Let the names mean that class. Raises `NameClash` where one means another class that is still there.

        A class of the same module and name takes the place of the one before: its module was loaded again.
        """
        wanted = [*names]
        for name in wanted:
            other = self.known.get(name, meaning)
            if other is not meaning and _place(other) != _place(meaning):
                raise NameClash(
                    f"{name} is claimed by {_shown(meaning)}, but it is the name of {_shown(other)}.",
                    hint="A name means one class; give one of the two another.",
                    path=name,
                )
        self.known.update(dict.fromkeys(wanted, meaning))
        self._note()

    def _note(self) -> None:
        self.active = bool(self.known or self.renames or self.moves)
        self.fitting, self._current = {}, {}


DECLARED = Declared()
MARK = "__perdure_versioned__"  # the attribute of a class that holds what is declared of it


def versioned_of(cls: type[Any]) -> Versioned | None:
    """What is declared of a class itself; a subclass has no version by that."""
    found: Versioned | None = cls.__dict__.get(MARK)
    if found is not None and found.cls is not cls:
        found.adopt(cls)  # a decorator above the declaration has made another class of it (dataclass with slots)
    return found


def _is_nested_in_itself(name: str, old: str, new: str) -> bool:
    return new.startswith(f"{old}.") and (name == new or name.startswith(f"{new}."))


def _place(meaning: Any) -> tuple[Any, Any]:
    return getattr(meaning, "__module__", None), getattr(meaning, "__qualname__", None)


def _shown(meaning: Any) -> str:
    return ":".join(map(str, _place(meaning)))


def _check(name: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        what = "module:Name" if pattern is _NAME else "the dotted name of a module"
        raise InvalidRename(f"{name!r:.80} is no name that could be renamed.", hint=f"Write {what}.")
