"""`@job` and `@flow`: functions that make jobs and runs.

- Outside a flow a `@job` function is a plain function. While a flow is being built, calling it makes a `Job`.
- A function is named `module:qualified.name`, by which every later process finds it. Functions defined inside others
  have no such name: they run in this process only (executor `inline`).
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, TypeVar, overload

from perdure.errors import ClassNotFound, FlowError
from perdure.flows.attempts import Settings
from perdure.flows.model import Job
from perdure.pickling.classes import MAIN, find, public_module

P = ParamSpec("P")
R = TypeVar("R")

LOCAL = "<locals>"

_building: ContextVar[list[Job] | None] = ContextVar("perdure_flow_that_is_built", default=None)
_finding: ContextVar[bool] = ContextVar("perdure_function_that_is_looked_for", default=False)
_local_functions: dict[str, Any] = {}  # functions without a lasting name, for the executor `inline`


class JobFunction(Generic[P, R]):
    """A function that is a job inside a flow, and itself everywhere else."""

    def __init__(self, function: Callable[P, R], name: str | None, settings: Settings):
        functools.update_wrapper(self, function)
        self.function = function
        self.job_name = name or function.__name__
        self.settings = settings
        self.name = _remember(self, function)
        self._signature: inspect.Signature | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        jobs = _building.get()
        if jobs is None:
            return self.function(*args, **kwargs)
        self._check(args, kwargs)
        made = Job(self.job_name, self.name, args, kwargs, self.settings)
        jobs.append(made)
        return made  # type: ignore[return-value]  # inside a flow it stands for the result

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        raise FlowError(
            f"{self.name} is a method; a job is a function of a module.", hint="Pass the object as an argument."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.name,)

    def __repr__(self) -> str:
        return f"<job {self.name}>"

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._signature is None:
            self._signature = inspect.signature(self.function)
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise FlowError(f"{self.job_name} was called wrongly in the flow: {error}.") from error


class Flow(Generic[P, R]):
    """A function whose calls of `@job` functions become the jobs of a run."""

    def __init__(self, function: Callable[P, R]):
        functools.update_wrapper(self, function)
        self.function = function
        self.name = _remember(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Without `perdure.start` a flow is a plain function, and so are its jobs."""
        return self.function(*args, **kwargs)

    @property
    def source(self) -> str:
        """The file that the flow is in: relative to the working directory if it is below it, else its name only."""
        file = inspect.getsourcefile(self.function) or ""
        inside = os.path.relpath(file) if file else ""
        return os.path.basename(file) if inside.startswith("..") or os.path.isabs(inside) else inside

    def build(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Job], Any]:
        """The jobs that the flow makes of these arguments, and what it returns; raises what the flow raises."""
        with building() as jobs:
            value = self.function(*args, **kwargs)
        return jobs, value

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.name,)

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


@contextmanager
def building() -> Iterator[list[Job]]:
    """Within the block, calls of `@job` functions make jobs."""
    if _building.get() is not None:
        raise FlowError("A flow is being built inside another one.", hint="Call the inner flow as a plain function.")
    jobs: list[Job] = []
    token = _building.set(jobs)
    try:
        yield jobs
    finally:
        _building.reset(token)


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...
@overload
def job(
    *, name: str | None = None, retries: int = 0, timeout: float | None = None, idempotent: bool = False
) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...
def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    timeout: float | None = None,
    idempotent: bool = False,
) -> Any:
    """Make a job of a function.

    A job that failed is tried `retries` times more; it fails after `timeout` seconds. `idempotent=True` says that it
    may be started again when it was cut off while running; otherwise it is `interrupted` and waits for a re-run.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise FlowError(f"retries is a number of times, 0 or more, not {retries!r}.")
    if timeout is not None and not timeout > 0:
        raise FlowError(f"timeout is a number of seconds above 0, not {timeout!r}.")
    settings = Settings(retries, timeout, idempotent)
    if function is not None:
        return JobFunction(function, name, settings)
    return lambda decorated: JobFunction(decorated, name, settings)


def flow(function: Callable[P, R]) -> Flow[P, R]:
    """Make a flow of a function: inside it, calls of `@job` functions make jobs that `perdure.start` runs."""
    return Flow(function)


def job_function(name: str) -> Callable[..., Any]:
    """The function of a job, by the name that the job has stored; raises `ClassNotFound`."""
    found = _found(name)
    return found.function if isinstance(found, JobFunction) else found


def is_looking() -> bool:
    """Whether a job's function is being looked for, which may import the module that it is in."""
    return _finding.get()


def why_only_here(name: str) -> str:
    """Why another process cannot find the function of that name; "" if it can."""
    if LOCAL in name:
        return "is defined inside another function"
    return "was typed at a prompt, or its script's name is no name of a module" if name.startswith(f"{MAIN}:") else ""


def _found(name: str) -> Any:
    if LOCAL in name:
        found = _local_functions.get(name)
        if found is None:
            raise ClassNotFound(
                f"{name} was defined inside another function, in a process that is gone.",
                hint="Define jobs at the top level of a module to run them again later.",
            )
        return found
    token = _finding.set(True)
    try:
        found = find(name)
    finally:
        _finding.reset(token)
    if not callable(found):
        raise ClassNotFound(f"{name} is no function here.")
    return found


def _remember(definition: Any, function: Callable[..., Any]) -> str:
    name = f"{public_module(function.__module__)}:{function.__qualname__}"
    if LOCAL in name:
        _local_functions[name] = definition
    return name
