"""The face of a store for asyncio: the same calls, awaited, on a worker thread.

- Each works for the view of the task that makes the call, also if another task awaits it (`asyncio.gather`).
- A ghost that is touched outside of an awaited call loads at once, and the loop waits for it; `aload_many` loads many
  before they are touched, `acall` runs a function that touches them.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from perdure.errors import PerdureError
from perdure.ids import Id
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.running import RETRIES, attempts
from perdure.objects.transactions.threads import in_thread, not_lent
from perdure.objects.transactions.transaction import Transaction

T = TypeVar("T")


class AsyncFace:
    """What a `Store` has for asyncio. Every call is to be awaited, and raises what its counterpart raises."""

    desk: Callable[[], Desk]  # this and the next are the store's own
    load: Callable[..., Any]
    find: Callable[..., Any]
    count: Callable[..., int]
    load_many: Callable[..., Any]
    save: Callable[..., Any]
    save_many: Callable[..., Any]
    replace: Callable[..., None]
    remove: Callable[..., None]

    def acall(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
        """Call `function(*args, **kwargs)` on a worker thread, with the view of the calling task.

        A call that is cancelled is waited for all the same, then the cancellation goes on.
        """
        return in_thread(not_lent(self.desk()), function, *args, **kwargs)

    def aload(self, id_: str, **options: Any) -> Coroutine[Any, Any, Any]:
        """`Store.load`."""
        return self.acall(self.load, id_, **options)

    def aload_many(self, ids: Iterable[str], **options: Any) -> Coroutine[Any, Any, list[Any]]:
        """`Store.load_many`."""
        return self.acall(self.load_many, [*ids], **options)

    def afind(self, cls: type[T] | str, **asked: Any) -> Coroutine[Any, Any, list[Any]]:
        """`Store.find`."""
        return self.acall(self.find, cls, **asked)

    def acount(self, cls: type[Any] | str, **asked: Any) -> Coroutine[Any, Any, int]:
        """`Store.count`."""
        return self.acall(self.count, cls, **asked)

    def asave(self, obj: T) -> Coroutine[Any, Any, Id[T]]:
        """`Store.save`."""
        return self.acall(self.save, obj)

    def asave_many(self, objects: Iterable[T]) -> Coroutine[Any, Any, builtins.list[Id[T]]]:
        """`Store.save_many`."""
        return self.acall(self.save_many, [*objects])

    def areplace(self, id_: str, obj: object) -> Coroutine[Any, Any, None]:
        """`Store.replace`."""
        return self.acall(self.replace, id_, obj)

    def aremove(self, id_: str) -> Coroutine[Any, Any, None]:
        """`Store.remove`."""
        return self.acall(self.remove, id_)

    def arun(
        self, function: Callable[..., Any], /, *args: Any, retries: int = RETRIES, note: str = "", **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """`Store.run`. A function runs on a worker thread, a coroutine function in the task that awaits it."""
        if inspect.iscoroutinefunction(function):
            return self._run_coroutine(function, args, kwargs, retries, note)
        return self._run_function(not_lent(self.desk()), function, args, kwargs, retries, note)

    async def _run_coroutine(
        self, function: Callable[..., Any], args: Any, kwargs: Any, retries: int, note: str
    ) -> Any:
        desk = self.desk()  # of the task that awaits, since the coroutine's own calls are made there
        for attempt in attempts(desk, retries):
            try:
                async with Transaction(desk, note, keeps_earlier=True):
                    return await function(*args, **kwargs)
            except PerdureError as error:
                await _sleep(attempt.wait_after(error))
        raise AssertionError("the last attempt returns or raises")

    @staticmethod
    async def _run_function(
        desk: Desk, function: Callable[..., Any], args: Any, kwargs: Any, retries: int, note: str
    ) -> Any:
        def once() -> Any:
            with Transaction(desk, note, keeps_earlier=True):
                return function(*args, **kwargs)

        for attempt in attempts(desk, retries):
            try:
                return await in_thread(desk, once)
            except PerdureError as error:
                await _sleep(attempt.wait_after(error))
        raise AssertionError("the last attempt returns or raises")


async def _sleep(seconds: float) -> None:
    await sys.modules["asyncio"].sleep(seconds)  # who runs a coroutine that awaits threads has imported it
