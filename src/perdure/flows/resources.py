"""What references to the outside need, sent to the processes of workers.

- Functions and classes go by their names, and are found there by importing, as the functions of jobs are; other values
  go as pickles. What goes in neither way stays behind: to ask for it there is an error, nothing else is.
- The functions of `extra_fields` are sent as well; those that cannot be sent keep jobs from saving the user's objects.
- A value is made in the worker when it is first asked for: what no job needs is never made.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import FunctionType
from typing import Any, NamedTuple

from perdure.errors import CannotIndex, CannotPickle, CannotResolve, PerdureError
from perdure.objects.instances.columns import ExtraFields
from perdure.pickling.classes import find, name_of
from perdure.pickling.outside import Resources
from perdure.records.values import Plain

EXTRA_FIELDS = "perdure.extra_fields"  # the name that they go by among the resources


class Sent(NamedTuple):
    """One resource on its way: its name as a function or class, or its pickle, or why it stays behind."""

    name: str = ""
    pickle: bytes = b""
    why_not: str = ""


def sent(resources: Resources) -> dict[str, Sent]:
    """The resources of a store in the form in which they go to workers."""
    return {name: _sent(value) for name, value in resources.items()}


def _sent(value: Any) -> Sent:
    if isinstance(value, (FunctionType, type)):
        try:
            return Sent(name=name_of(value))
        except CannotPickle as error:
            return Sent(why_not=str(error))
    try:
        return Sent(pickle=pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:  # noqa: BLE001  # the user's own methods run here, and what they raise is why it stays
        return Sent(why_not=f"{type(error).__name__}: {error}")


def with_extra_fields(resources: Resources, extra: ExtraFields | None, *, elsewhere: bool) -> Resources:
    """The resources of a store and its extra fields, for jobs that run here or `elsewhere`."""
    if extra is None:
        return resources
    told = _sent(extra) if elsewhere else Sent()
    return Resources({**resources, EXTRA_FIELDS: _LeftBehind(extra.names, told.why_not) if told.why_not else extra})


class _LeftBehind(ExtraFields):
    """Stands for extra fields whose functions cannot be sent to another process."""

    def __init__(self, names: tuple[str, ...], why: str):
        super().__init__(dict.fromkeys(names, str))
        self._why = why

    def of(self, obj: Any, class_name: str, *, unsaved: bool = False) -> dict[str, Plain]:
        raise CannotIndex(
            f"{class_name} cannot be saved in the process of a worker, which does not have the functions of"
            f" extra_fields ({', '.join(self.names)}): {self._why}",
            hint="Give functions at the top level of a module, or operator.attrgetter, or executor='inline'.",
        )


class ReceivedResources(Resources):
    """The resources of the engine's store, in a worker."""

    def __init__(self, received: Mapping[str, Sent]):
        super().__init__()
        self._received = received

    def get(self, name: str, default: Any = None) -> Any:
        """The resource, made if need be; `default` if it was not given or stayed behind."""
        found = self._received.get(name)
        return default if found is None or found.why_not else self[name]

    def __missing__(self, name: str) -> Any:
        found = self._received.get(name)
        if found is None:
            return super().__missing__(name)
        if found.why_not:
            raise _not_here(name, found.why_not)
        try:
            value = find(found.name) if found.name else pickle.loads(found.pickle)
        except Exception as error:  # imports the user's modules, and runs their methods: anything may come out
            told = str(error) if isinstance(error, PerdureError) else f"{type(error).__name__}: {error}"
            raise _not_here(name, told) from error
        self[name] = value
        return value


def _not_here(name: str, why: str) -> CannotResolve:
    return CannotResolve(
        f"The resource {name!r} cannot be had in the process of a worker: {why}",
        hint="Give a function at the top level of a module, which opens it, and call that where it is needed.",
    )
