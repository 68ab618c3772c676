"""Versions of classes: `versioned` declares a class's stable name and version, `upgrade` a step from one to the next.

- A step gets the state of one object, before the object is made: a dict of attributes, or what the class's own
  `__getstate__` gave. It changes it, or gives another one. Declared parts (`rename`, `add`, `remove`) go first.
- Steps stand below the class, so that the chain is whole only when its module was run: a step that cannot be right is
  refused when it is declared, a gap when a store is opened, or when the class is first used by one.
- Records from before the class had a version count as its first.
- Whatever a step raises becomes `UpgradeFailed`, which names it; the record is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from perdure.errors import InvalidArgument, MissingUpgrade, PerdureError, UpgradeFailed
from perdure.pickling.classes import shown_name
from perdure.pickling.declared import DECLARED, MARK, versioned_of
from perdure.pickling.layouts import forget_layout

C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[[Any], Any])

_STABLE = re.compile(r"[^\W\d][\w-]*(\.[^\W\d][\w-]*)*")


class Versions:
    """What is declared of one class."""

    def __init__(self, cls: type[Any], name: str, version: int, oldest: int, sample: Callable[[], Any] | None):
        self.cls = cls
        self.name = name
        self.version = version
        self.oldest = oldest
        self.sample = sample
        self.steps: dict[int, Step] = {}
        self._is_complete = False
        self.names: tuple[str, ...] = (name,)  # the stable one, and former ones

    def adopt(self, cls: type[Any]) -> None:
        """Be of that class from now on: a decorator has made it of the one that was declared."""
        before, self.cls = self.cls, cls
        for name in self.names:
            if DECLARED.known.get(name) is before:
                DECLARED.known[name] = cls

    def require_complete(self) -> None:
        """Raise `MissingUpgrade` where the steps do not lead from the oldest version to the present one."""
        if self._is_complete:
            return
        missing = [version for version in range(self.oldest, self.version) if version not in self.steps]
        if missing:
            raise MissingUpgrade(
                f"{self.name} is at version {self.version}, but has no upgrade from version"
                f" {', '.join(map(str, missing))} to the next.",
                hint=f"Write @perdure.upgrade({self.cls.__name__}, {missing[0]}) over a function below the class; or"
                f" say oldest={missing[-1] + 1} in perdure.versioned, when no older record is left (perdure plan).",
                path=self.name,
                versions=tuple(missing),
            )
        self._is_complete = True  # steps only come

    def upgraded(self, state: Any, version: int) -> Any:
        """The state of an older version as the class has it now. Raises `UpgradeFailed`, `MissingUpgrade`."""
        self.require_complete()
        if version < self.oldest:
            raise UpgradeFailed(
                f"{self.name}: what is stored is of version {version}; the oldest that is upgraded is {self.oldest}.",
                hint="Bring the older upgrades back, upgrade the store with them, and take them away then.",
                version=version,
                step="",
            )
        for begins in range(version, self.version):
            state = self.steps[begins].run(state)
        return state


class Step:
    """One step of an upgrade; as a decorator it takes the function that does what is not declared."""

    def __init__(self, versions: Versions, begins: int, declared: Callable[[dict[str, Any]], None] | None):
        self._versions = versions
        self.begins = begins
        self._declared = declared
        self._function: Callable[[Any], Any] | None = None
        if declared is not None:
            self._enter()

    def __call__(self, function: F) -> F:
        self._function = function
        self._enter()
        return function

    def _enter(self) -> None:
        other = self._versions.steps.get(self.begins, self)
        if other is not self:
            raise MissingUpgrade(
                f"{self._versions.name} has an upgrade from version {self.begins} already: {other.name}.",
                hint="Put both into one function, or give the class another version.",
                path=self._versions.name,
            )
        self._versions.steps[self.begins] = self

    @property
    def name(self) -> str:
        """What the step is called in errors."""
        if self._function is None:
            return "the declared one"
        return f"{self._function.__module__}:{self._function.__qualname__}"

    def run(self, state: Any) -> Any:
        """The state after the step. Raises `UpgradeFailed`."""
        try:
            if self._declared is not None:
                if type(state) is not dict:
                    raise TypeError(f"attributes are declared, but the class stores a {type(state).__name__}")
                self._declared(state)
            given = state if self._function is None else self._function(state)
        except Exception as error:  # the user's function: anything may come out, and it is why there is no object
            if isinstance(error, PerdureError) and error.retryable:
                raise
            raise UpgradeFailed(
                f"The upgrade of {self._versions.name} from version {self.begins} to {self.begins + 1} ({self.name})"
                f" raised {type(error).__name__}: {error}".rstrip(": "),
                hint="The record is as it was; it loads when the step does.",
                version=self.begins,
                step=self.name,
            ) from error
        return state if given is None else given


def versioned(
    name: str,
    *,
    version: int = 1,
    formerly: Iterable[str] = (),
    oldest: int = 1,
    sample: Callable[[], Any] | None = None,
) -> Callable[[C], C]:
    """Give the class below it a stable name, which its records bear from now on, and a version.

    `formerly` are names that it had in records before (`module:Class`); records without a version count as version 1.
    `oldest` is the oldest version that is still upgraded. `sample` makes an object for `perdure.freeze_samples`.
    Raises `NameClash` where another class has one of the names, `InvalidArgument`.
    """
    if not isinstance(name, str) or not _STABLE.fullmatch(name):
        raise InvalidArgument(
            f"{name!r:.80} is no stable name.", hint='It is made of letters, digits, _ and -, with dots: "shop.Order".'
        )
    for what, number in (("version", version), ("oldest", oldest)):
        if type(number) is not int or not 1 <= number <= MOST:
            raise InvalidArgument(
                f"{what} is a whole number from 1 to {MOST}, not {number!r:.40}.", hint="Begin with 1."
            )
    if oldest > version:
        raise InvalidArgument(f"{name}: oldest={oldest} is above version={version}.", hint="It is at most the version.")
    former = (formerly,) if isinstance(formerly, str) else tuple(formerly)

    def declare(cls: C) -> C:
        if not isinstance(cls, type):
            raise InvalidArgument(f"A class has a version, not {cls!r:.60}.", hint="Put it over a class statement.")
        versions = Versions(cls, name, version, oldest, sample)
        versions.names = (name, *former)
        DECLARED.know(versions.names, cls)
        setattr(cls, MARK, versions)
        forget_layout(cls)
        return cls

    return declare


MOST = 65_535  # versions: what the header of a record holds


def upgrade(
    cls: type[Any],
    version: int,
    *,
    rename: Mapping[str, str] | None = None,
    add: Mapping[str, Any] | None = None,
    remove: Iterable[str] = (),
) -> Step:
    """The step of a versioned class from `version` to the next: declared, or a decorator of a function on plain state.

    `rename` maps old names of attributes to new ones, `add` gives attributes that are not there values (a copy for each
    object), `remove` drops some. The function gets a dict of attributes, and changes it or gives another.
    Raises `MissingUpgrade` for a step that is there already, or beyond the class's version.
    """
    versions = versioned_of(cls) if isinstance(cls, type) else None
    if not isinstance(versions, Versions):
        raise InvalidArgument(
            f"{cls!r:.80} has no version.", hint='Put @perdure.versioned("its.name", version=2) over the class.'
        )
    if type(version) is not int or not 1 <= version < versions.version:
        raise MissingUpgrade(
            f"{versions.name} is at version {versions.version}; there is no step from version {version!r:.40}.",
            hint="upgrade(cls, 1) is the step from version 1 to 2; raise the version in perdure.versioned with it.",
            path=versions.name,
        )
    gone = (remove,) if isinstance(remove, str) else tuple(remove)
    renames, adds = dict(rename or {}), dict(add or {})
    declared = _declared(renames, adds, gone) if renames or adds or gone else None
    return Step(versions, version, declared)


def _declared(renames: dict[str, str], adds: dict[str, Any], gone: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    names = [*renames, *renames.values(), *adds, *gone]
    wrong = next((name for name in names if not isinstance(name, str) or not name.isidentifier()), None)
    twice = next((name for name in renames.values() if [*renames.values(), *adds].count(name) > 1), None)
    if wrong is not None or twice is not None:
        what = "is no name of an attribute" if wrong is not None else "would come from two attributes"
        raise InvalidArgument(f"{wrong if twice is None else twice!r:.60} {what}.", hint="Name each attribute once.")

    def change(state: dict[str, Any]) -> None:
        taken = {new: state.pop(old) for old, new in renames.items() if old in state}
        for name in gone:
            state.pop(name, None)
        for new, value in taken.items():
            if new in state:
                raise ValueError(f"it has an attribute {new!r} already, so that another one cannot be renamed to it")
            state[new] = value
        for name, value in adds.items():
            if name not in state:
                state[name] = deepcopy(value)

    return change


def require_complete_chains() -> None:
    """Raise `MissingUpgrade` for a versioned class of this process whose steps have a gap."""
    for meaning in [*DECLARED.known.values()]:
        versions = versioned_of(meaning) if isinstance(meaning, type) else None
        if versions is not None:
            versions.require_complete()


def register_class(cls: C) -> C:
    """Make a class known by its name in records, so that it is found without being imported; gives the class.

    Perdure's own reader makes objects of it also without a good seal. Raises `NameClash`.
    """
    if not isinstance(cls, type):
        raise InvalidArgument(f"A class is registered, not {cls!r:.60}.", hint="Put it over a class statement.")
    DECLARED.know([shown_name(cls)], cls)
    REGISTERED[shown_name(cls)] = cls
    return cls


REGISTERED: dict[str, type[Any]] = {}


def registered() -> dict[str, type[Any]]:
    """The versioned classes of this process by their stable names, and those that were registered by theirs."""
    found = {}
    for name, meaning in DECLARED.known.items():
        versions = versioned_of(meaning) if isinstance(meaning, type) else None
        if versions is not None and versions.name == name:
            found[name] = meaning
    return {**REGISTERED, **found}
