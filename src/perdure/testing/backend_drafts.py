"""The drafts, batches and threads that tests of backends are made of.

- What a test does not care about has a default.
- The key is known to everybody: never to be used for a store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.backends.base import Backend
from perdure.records.frame import Encoder, encoder, parse_unverified
from perdure.records.seal import Key
from perdure.records.values import INTERNAL, NO_FIELDS, Batch, Draft, Fields, Receipt

ENCODE: Encoder = encoder(Key(b"a key that only tests may have.."))


def draft(
    id_: str,
    payload: bytes = b"",
    *,
    base: int = 0,
    class_name: str = "shop:Item",
    internal: bool = False,
    references: Sequence[str] = (),
    fields: Fields = NO_FIELDS,
) -> Draft:
    """A draft with what a test of backends needs to choose."""
    return Draft(id_, base, INTERNAL if internal else 0, class_name, 1, "c0de", tuple(references), fields, payload)


def commit(backend: Backend, *drafts: Draft, seen: int = 0, **rest: Any) -> Receipt:
    """Apply one batch; `rest` are further parts of a `Batch`."""
    return backend.apply(Batch(list(drafts), seen=seen, **rest), ENCODE)


def payloads(frames: Mapping[str, bytes]) -> dict[str, bytes]:
    """What is in those frames, without what is around it."""
    return {id_: parse_unverified(frame).payload for id_, frame in frames.items()}


def in_threads(work: Callable[[], object], count: int) -> None:
    """Run `work` in so many threads at once; the first error in any of them is raised here."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def guarded() -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that asked)
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
