"""Work for a view on a worker thread, so that an event loop need not wait for disks, databases and locks.

- The thread works as if it were the view's own: what it loads is of that view, and it may write it. One thread at a
  time works for a view; further ones wait for their turn.
- Who waits for a thread and is cancelled waits all the same until it is done, since the view cannot be left half-way:
  then the outcome is decided, and the cancellation goes on.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from perdure.errors import TransactionError
from perdure.objects.transactions.commits import Desk
from perdure.objects.views.view import LENT

T = TypeVar("T")


def not_lent(desk: Desk) -> Desk:
    """The desk, unless this thread works for it already: who waited for another one would wait for ever."""
    if LENT.view is desk.view:
        raise TransactionError(
            "An awaited call was made from within a function that runs on a worker thread for the same task.",
            hint="Call its plain counterpart there: load instead of aload.",
        )
    return desk


async def in_thread(desk: Desk, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """What the function gives, called on a worker thread of the running loop."""
    import asyncio  # here, since it takes longer than opening a store, and most programs never need it

    context = contextvars.copy_context()
    call = functools.partial(context.run, _work, desk, functools.partial(function, *args, **kwargs))
    future = asyncio.get_running_loop().run_in_executor(None, call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from future.exception()
    return future.result()


def _work(desk: Desk, call: Callable[[], T]) -> T:
    with desk.turn:
        threads = desk.threads
        own = threads.desk, threads.view
        threads.desk, threads.view = desk, desk.view
        LENT.view = desk.view
        try:
            return call()
        except StopIteration as error:  # no coroutine can raise it, and the loop would wait for ever
            raise RuntimeError("The function raised StopIteration.") from error
        finally:
            threads.desk, threads.view = own
            LENT.view = None
