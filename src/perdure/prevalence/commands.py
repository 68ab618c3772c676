"""Commands: what they are called in the journal, what is stored of them, and how they are found and carried out again.

- A method of the root's class under `@command` is journaled when it is called through `system.root`; called by a
  command, or on an object that is no system's root, it is an ordinary method.
- Any object with `apply(root)` is a command as well, carried out by `system.execute`.
- Stored are a name (as in `perdure.pickling.classes`), a version and the arguments, never the function.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import pickle
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from perdure.errors import CannotLoad, CannotPickle, ClassNotFound, InvalidArgument, NewerFormat, PrevalenceError
from perdure.pickling.classes import find, name_of
from perdure.prevalence.changes import Changes
from perdure.prevalence.entries import KEYWORDS, LARGEST, NAMES
from perdure.prevalence.moments import local
from perdure.prevalence.pickles import dump_arguments, is_plain, load_arguments

METHOD, STATE, WHOLE = "method", "state", "whole"  # what of a command is stored: arguments, attributes, all of it

Function = TypeVar("Function", bound=Callable[..., Any])
Upgrade = Callable[[int, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


class Submits(Protocol):
    """What a system offers to the methods of its root."""

    @property
    def root(self) -> Any: ...

    def submit(self, kind: Kind, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any: ...


SYSTEMS: dict[int, Submits] = {}  # by the address of the root, which the system holds


class Stored(NamedTuple):
    """The arguments of one command, as they go into the journal, and as they are carried out."""

    flags: int
    short: bytes  # in the journal
    whole: bytes  # a complete pickle of the same
    plain: Any = None  # the arguments themselves, if nobody can change them


class Kind:
    """A sort of command: one method, or one class with `apply`."""

    def __init__(self, name: str, version: int, form: str, target: Any, upgrade: Upgrade | None = None):
        self.name = name
        self.version = version
        self.form = form
        self.target = target  # the bare function, or the class
        self.upgrade = upgrade

    @property
    def module(self) -> str:
        """The module that it is defined in."""
        return str(self.target.__module__)

    @property
    def title(self) -> str:
        """The name without its module, for people."""
        return self.name.rpartition(":")[2]

    def store(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Stored:
        """What is written of a call; raises `CannotPickle`."""
        value: Any = args
        flags = 0
        if self.form != METHOD:
            value = args[0]
            value = value.__dict__ if self.form == STATE else value
        elif keywords:
            value, flags = (args, keywords), KEYWORDS
        whole, short, names = dump_arguments(value, self.title)
        if len(short) > LARGEST:
            raise CannotPickle(f"The arguments of {self.title} take {len(short)} bytes; {LARGEST} are allowed.")
        return Stored(flags | NAMES if names else flags, short, whole, value if is_plain(value) else None)

    def copied(self, stored: Stored) -> Any:
        """A copy of the arguments, which nobody else holds; raises `CannotLoad` if it cannot be made."""
        if stored.plain is not None:
            return stored.plain
        try:
            return pickle.loads(stored.whole)
        except Exception as error:  # the user's classes run here
            raise CannotLoad(
                f"The arguments of {self.title} can be pickled, but not loaded: {type(error).__name__}: {error}.",
                hint="Nothing was journaled. Their class refuses the state that it gives.",
            ) from error

    def carry_out(self, root: Any, flags: int, value: Any) -> Any:
        """Do it, with arguments that nobody else holds."""
        if self.form == METHOD:
            if flags & KEYWORDS:
                return self.target(root, *value[0], **value[1])
            return self.target(root, *value)
        if self.form == STATE:
            command = self.target.__new__(self.target)
            command.__dict__.update(value)
            return command.apply(root)
        return value.apply(root)

    def carry_out_noting(self, root: Any, flags: int, value: Any, changes: Changes) -> Any:
        """The same, with all that it changes noted; what cannot be noted is lost."""
        args, keywords = value if flags & KEYWORDS else (value, {})
        function = self.target
        if self.form != METHOD:
            function = _plain_function(self.target, "apply")
            command = value
            if self.form == STATE:
                command = self.target.__new__(self.target)
                command.__dict__.update(value)
            root, args = command, (root,)
        twin = changes.twin_of(function) if function is not None else None
        if twin is None:
            changes.lost = True
            answer = function(root, *args, **keywords) if function is not None else root.apply(*args)
        else:
            answer = twin(changes, root, *args, **keywords)
        if type(answer) in LATE:
            raise late_error(self, answer)
        return answer

    def upgraded(self, version: int, flags: int, value: Any) -> tuple[int, Any]:
        """The arguments of an older version as this one takes them."""
        if version == self.version:
            return flags, value
        if version > self.version:
            raise NewerFormat(
                f"The journal has version {version} of {self.name}; this program knows it up to {self.version}.",
                hint="Start the program's later version.",
            )
        if self.upgrade is None:
            return flags, value
        if self.form == METHOD:
            args, keywords = value if flags & KEYWORDS else (value, {})
            return flags | KEYWORDS, self.upgrade(version, args, keywords)
        return flags, self.upgrade(version, (), value)[1] if self.form == STATE else value


def late_error(kind: Kind, answer: Any) -> PrevalenceError:
    """What a command gets that would do the rest of its work after it has ended, unjournaled."""
    if isinstance(answer, (GeneratorType, CoroutineType)):
        answer.close()
    return PrevalenceError(
        f"{kind.title} gives a {type(answer).__name__}, which does its work only when it is asked.",
        hint="Do it in the command at once: return a list.",
    )


LATE = frozenset({GeneratorType, CoroutineType, AsyncGeneratorType, map, filter})


@overload
def command(function: Function, /) -> Function: ...
@overload
def command(*, version: int = 1, upgrade: Upgrade | None = None) -> Callable[[Function], Function]: ...
def command(function: Any = None, /, *, version: int = 1, upgrade: Upgrade | None = None) -> Any:
    """Make a method of the root's class a command: calls through `system.root` are journaled, then carried out.

    For journals with older calls raise `version`, and let `upgrade(version, args, keywords)` give today's arguments.
    On a class with `apply(root)`, `keywords` are the stored attributes.
    """
    if function is None:
        return functools.partial(command, version=version, upgrade=upgrade)
    if isinstance(function, type):
        function.__perdure_command__ = (version, upgrade)  # type: ignore[attr-defined]
        return function
    _require_function(function)

    @functools.wraps(function)
    def call(self: Any, /, *args: Any, **keywords: Any) -> Any:
        system = SYSTEMS.get(id(self))
        if system is None or system.root is not self:
            return function(self, *args, **keywords)
        moment = local.moment
        if moment is None:
            return system.submit(kind_of_method(call), args, keywords)
        if moment.system is system:
            return function(self, *args, **keywords)
        raise PrevalenceError(
            f"{function.__qualname__} of another system was called by a command.",
            hint="A command changes its own system only; call it after the command.",
        )

    call.__perdure_command__ = (version, upgrade, function)  # type: ignore[attr-defined]
    return call


def _require_function(function: Any) -> None:
    """Raise `InvalidArgument` for what is no plain method, or does its work only after it was called."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or repr(function)[:60]
    if not isinstance(function, FunctionType):
        raise InvalidArgument(
            f"@command is for a plain method; {name} is a {type(function).__name__}.",
            hint="A command is called on the root: def add(self, …). What others do to it stands above @command.",
        )
    if function.__code__.co_flags & _LATER:
        raise InvalidArgument(
            f"{name} is asynchronous, or a generator: it would do its work after the command.",
            hint="Do it in the command at once, and return a list; execute_async leaves the loop free.",
        )


_LATER = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_kinds: dict[Any, Kind] = {}  # by the decorated function, or the class


def kind_of_method(call: Any) -> Kind:
    """The kind of a method under `@command`; raises `CannotPickle` if it cannot be found again by its name."""
    kind = _kinds.get(call)
    if kind is None:
        version, upgrade, function = call.__perdure_command__
        kind = _kinds[call] = Kind(name_of(call), version, METHOD, function, upgrade)
    return kind


def kind_of_object(obj: Any) -> Kind:
    """The kind of a command that is an object; raises `PrevalenceError` if it is none."""
    cls = type(obj)
    kind = _kinds.get(cls)
    if kind is None:
        if not callable(getattr(cls, "apply", None)):
            raise PrevalenceError(
                f"{cls.__qualname__} is no command: it has no method apply(root).",
                hint="Give execute an object with apply(root), or a method under @command and its arguments.",
            )
        kind = _kinds[cls] = _kind_of_class(cls, _form_of(obj))
    return kind


def _kind_of_class(cls: type[Any], form: str) -> Kind:
    version, upgrade = getattr(cls, "__perdure_command__", (1, None))
    return Kind(name_of(cls), version, form, cls, upgrade)


def _plain_function(cls: type[Any], name: str) -> Any:
    found = next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)
    return found if isinstance(found, FunctionType) else None


def _form_of(obj: Any) -> str:
    """Whether the attributes are all that has to be stored."""
    cls: Any = type(obj)
    plain = (
        all(getattr(cls, name) is getattr(object, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__"))
        and not any(hasattr(cls, name) for name in ("__setstate__", "__getnewargs__", "__getnewargs_ex__"))
        and cls not in copyreg.dispatch_table
    )
    if not plain or not hasattr(obj, "__dict__"):
        return WHOLE
    reduced = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return STATE if len(reduced[1]) == 1 and reduced[3:] == (None, None) and _has_no_slots(cls) else WHOLE


def _has_no_slots(cls: type[Any]) -> bool:
    return not copyreg._slotnames(cls)  # type: ignore[attr-defined]


def find_kind(name: str, form: str) -> Kind:
    """The kind that a journal tells of; raises `ClassNotFound`, or `PrevalenceError` for what is no command."""
    try:
        if form == METHOD:
            holder, _, method = name.rpartition(".")
            return kind_of_method(getattr(find(holder), method))  # a class may have another name now
        found = find(name)
        kind = _kinds.get(found)
        return kind if kind is not None and kind.form == form else _kind_of_class(found, form)
    except (AttributeError, CannotPickle) as error:
        raise ClassNotFound(
            f"{name} is no command any more.", hint="Keep commands that journals still have.", path=name
        ) from error


def load_stored(kind: Kind, version: int, flags: int, short: bytes) -> tuple[int, Any]:
    """The arguments of a stored command, brought to the present version."""
    return kind.upgraded(version, flags, load_arguments(short, bool(flags & NAMES)))
