"""A backend as it was at one revision: the same frames, and nothing later.

- It reads through the backend that it is made of, whose life is not its own: closing it closes nothing there.
- Every call that would write raises `ReadOnly`; one that asks for what was packed meanwhile raises `SnapshotTooOld`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NoReturn

from perdure.backends.base import Backend
from perdure.errors import ReadOnly, StoreClosed
from perdure.records.frame import Encoder
from perdure.records.values import Batch, Buffer, Commit, Description, Receipt, Version


class PastBackend(Backend):
    """`backend` at `revision`. Queries are answered by looking through all records of their classes."""

    read_only = True

    def __init__(self, backend: Backend, revision: int):
        self._backend = backend
        self._revision = revision
        self._closed = False

    def describe(self) -> Description:
        return self._opened().describe()._replace(revision=self._revision)

    def revision(self) -> int:
        self._opened()
        return self._revision

    def watch(self) -> Callable[[], object]:
        return lambda: 0  # nobody commits to the past

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        return self._opened().read(ids, self._until(at))

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        return self._opened().classes(ids, self._until(at))

    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        return self._opened().ids(internal=internal, at=self._until(at))

    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        return self._opened().ids_of(numbers, self._until(at))

    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        return self._opened().scan(class_name=class_name, internal=internal, after=after, at=self._until(at))

    def changes(self, since: int) -> tuple[int, set[int]]:
        self._opened()
        return self._revision, set()

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        end = self._revision + 1
        return self._opened().commits(end if before is None else min(before, end), limit)

    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        return self._opened().commits_of([revision for revision in revisions if revision <= self._revision])

    def history(self, id_: str) -> list[Version]:
        return [version for version in self._opened().history(id_) if version.revision <= self._revision]

    def removals(self) -> dict[str, int]:
        removed = self._opened().removals()
        return {id_: revision for id_, revision in removed.items() if revision <= self._revision}

    def buffer(self, digest: str) -> Buffer:
        return self._opened().buffer(digest)

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        return self._opened().buffer_parts(digest)

    def buffers(self) -> dict[str, int]:
        return self._opened().buffers()

    def reserve(self, count: int, *, durable: bool = True) -> int:
        self._refuse()

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        self._refuse()

    def pack(self, oldest: int) -> int:
        self._refuse()

    def erase(self, ids: Collection[str]) -> None:
        self._refuse()

    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        self._refuse()

    def close(self) -> None:
        self._closed = True

    def _opened(self) -> Backend:
        if self._closed:
            raise StoreClosed("This sight of the past was closed.", hint="Ask the store for it again, with `at`.")
        return self._backend

    def _until(self, at: int | None) -> int:
        return self._revision if at is None else min(at, self._revision)

    def _refuse(self) -> NoReturn:
        self._opened()
        raise ReadOnly(
            f"This is the store as it was at revision {self._revision}; the past cannot be written.",
            hint="Write to the store itself; `undo` takes a commit back.",
        )
