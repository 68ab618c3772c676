"""What names in records mean in this process: stable names, declared renames and moves, registered classes.

- A name is that of a class, function or member as records spell it (`module:qualified.name`), or a stable name.
- A stable, former or registered name comes before renames, which are those of `renames`, followed to their end.
- What is declared and cannot be is refused at once, and nothing of it stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from perdure.errors import InvalidRename, NameClash
from perdure.pickling.renames import Renames

MOST_KNOWN = 10_000  # names whose answer is remembered


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
        self._renames = Renames()
        self.fitting: dict[tuple[str, str, int], tuple[Any, str, str]] = {}  # layouts that were seen to fit
        self._current: dict[str, str] = {}  # names that were asked about
        self._members: dict[str, dict[str, str]] = {}  # by classes that were asked about

    def clear(self) -> None:
        """Forget everything that was declared: for tests."""
        self.known, self.renames, self.moves, self._renames = {}, {}, {}, Renames()
        self._note()

    def current(self, name: str) -> str:
        """The name as it is now, all renames and moves followed; it may be one of `known`."""
        found = self._current.get(name)
        if found is None:
            found = name if name in self.known else self._renames.of_text(name)
            if len(self._current) < MOST_KNOWN:
                self._current[name] = found
        return found

    def members(self, class_name: str) -> Mapping[str, str]:
        """Old names of members of an enumeration, as it is called now, and what they are called now."""
        found = self._members.get(class_name)
        if found is None:
            ends = (self.current(old).rpartition(".") for old in self.renames)
            pairs = zip(self.renames, ends, strict=True)
            found = {old.rpartition(".")[2]: new for old, (owner, _, new) in pairs if owner == class_name}
            if len(self._members) < MOST_KNOWN:
                self._members[class_name] = found
        return found

    def declare(self, renames: Mapping[str, str], moves: Mapping[str, str]) -> None:
        """Add them all, or none: raises `InvalidRename`."""
        for names, there in ((renames, self.renames), (moves, self.moves)):
            for old, new in names.items():
                wrong = next((name for name in (old, new) if not isinstance(name, str)), None)
                if wrong is not None:
                    raise InvalidRename(
                        f"{wrong!r:.80} is no name.", hint="Write module:Name, or the name of a module."
                    )
                if there.get(old, new) != new:
                    raise InvalidRename(
                        f"{old} is renamed to {new}, but it was declared to be {there[old]} before.",
                        hint="One old name means one new one; take one of the two away.",
                        path=old,
                    )
        both = {**self.renames, **renames}, {**self.moves, **moves}
        self._renames = Renames(*both)
        self.renames, self.moves = both
        self._note()

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
        self.fitting, self._current, self._members = {}, {}, {}


DECLARED = Declared()
MARK = "__perdure_versioned__"  # the attribute of a class that holds what is declared of it


def versioned_of(cls: type[Any]) -> Versioned | None:
    """What is declared of a class itself; a subclass has no version by that."""
    found: Versioned | None = cls.__dict__.get(MARK)
    if found is not None and found.cls is not cls:
        found.adopt(cls)  # a decorator above the declaration has made another class of it (dataclass with slots)
    return found


def _place(meaning: Any) -> tuple[Any, Any]:
    return getattr(meaning, "__module__", None), getattr(meaning, "__qualname__", None)


def _shown(meaning: Any) -> str:
    return ":".join(map(str, _place(meaning)))
