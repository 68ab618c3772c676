"""Values that are only stored by name: of the environment, and secrets.

- No value gets into a record, nor is it kept by the object: it is looked up each time that `.value` is asked for.
- What is shown (`repr`, error messages) is the name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from perdure.errors import CannotResolve
from perdure.pickling.outside import Kind, Resources, outside, register_own

Secrets = Mapping[str, Any] | Callable[[str], Any]

ENVIRONMENT, SECRET = "perdure.environment", "perdure.secret"
SECRETS = "secrets"  # the resource


class Named:
    """What is stored by a tag and its name only; two of one class and name are equal."""

    __slots__ = ("__weakref__", "_name")
    _tag = ""

    def __init__(self, name: str):
        if type(name) is not str or not name:
            raise TypeError(f"a name is a str that is not empty, not {type(name).__name__}")
        self._name = name

    @property
    def name(self) -> str:
        """The name that it is stored by."""
        return self._name

    def __outside__(self) -> tuple[str, str]:
        return self._tag, self._name

    def __reduce__(self) -> tuple[Any, ...]:
        return outside, self.__outside__()

    def __copy__(self) -> Named:
        return self

    def __deepcopy__(self, memo: Any) -> Named:
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Named) and other._name == self._name

    def __hash__(self) -> int:
        return hash((self._tag, self._name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"


class Environment(Named):
    """An environment variable of the process that asks for it: stored by its name, never with its value."""

    __slots__ = ()
    _tag = ENVIRONMENT

    @property
    def value(self) -> str:
        """What it is now; raises `CannotResolve` if it is not set."""
        value = os.environ.get(self._name)
        if value is None:
            raise CannotResolve(
                f"The environment variable {self._name} is not set in this process.", tag=ENVIRONMENT, key=self._name
            )
        return value


class Secret(Named):
    """A password or the like: stored by its name, never with its value.

    `secrets` is a mapping by names, or a function of a name. One that is loaded gets the resource `"secrets"` of its
    store: `make_store(url, resources={"secrets": …})`.
    """

    __slots__ = ("_secrets",)
    _tag = SECRET

    def __init__(self, name: str, secrets: Secrets | None = None):
        super().__init__(name)
        self._secrets = secrets

    @property
    def value(self) -> Any:
        """What it is now; raises `CannotResolve` if there is none of that name, or nowhere to look it up."""
        if self._secrets is None:
            raise self._missing("and nothing was given to look it up in")
        try:
            value = self._secrets(self._name) if callable(self._secrets) else self._secrets[self._name]
        except LookupError as error:
            raise self._missing("which is not there") from error
        if value is None:
            raise self._missing("which is not there")
        return value

    def _missing(self, why: str) -> CannotResolve:
        return CannotResolve(
            f"The value of the secret {self._name!r} was asked for, {why}.",
            hint='Open the store with make_store(url, resources={"secrets": …}): a mapping, or a function of the name.',
            tag=SECRET,
            key=self._name,
        )


def _secret(key: str, resources: Resources) -> Secret:
    return Secret(key, resources.get(SECRETS))


register_own(Kind(ENVIRONMENT, Environment, lambda obj: obj.name, lambda key, resources: Environment(key), False))
register_own(Kind(SECRET, Secret, lambda obj: obj.name, _secret, False))
