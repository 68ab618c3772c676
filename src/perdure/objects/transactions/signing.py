"""The code record of commits that pickle nothing themselves: undos, collections, renames, what comes from elsewhere.

- It is the running program's. Where the store has no such record yet, the commit writes it along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perdure.backends.base import Backend
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.worklist import Worklist
from perdure.records.frame import Encoder, encoder
from perdure.records.values import Batch, Receipt

Apply = Callable[[Batch], Receipt]


@contextmanager
def signing(desk: Desk, encode: Encoder | None = None) -> Iterator[Apply]:
    """Gives what applies one batch, as often as it has to be tried, with the code record of the program."""
    view = desk.view
    backend: Backend = view.backend
    if encode is None:
        assert view.key is not None  # require_writable has asked for it
        encode = encoder(view.key, compress=True)
    worklist = Worklist(view, desk.naming, desk.code_of, [], everything=False)
    with view.lock:
        code = worklist.program_code()
        own = worklist.batch(0.0, "") if worklist.drafts else None

    def apply(batch: Batch) -> Receipt:
        signed = batch._replace(code=code)
        if own is not None:
            signed = signed._replace(
                drafts=[*batch.drafts, *own.drafts], buffers={**batch.buffers, **own.buffers},
                indexed={**batch.indexed, **own.indexed}, counted=batch.counted and own.counted, unused=own.unused,
            )  # fmt: skip
        receipt = backend.apply(signed, encode)
        worklist.finish(receipt.revision)
        worklist.rest()
        done.append(True)
        return receipt

    done: list[bool] = []
    try:
        yield apply
    finally:
        if not done:
            worklist.forget_new()
        worklist.release()
