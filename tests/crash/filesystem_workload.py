"""A run of commits on a filesystem backend, and what must be left of it after any crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perdure.backends.filesystem import medium as filesystem_medium
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.errors import StoreNotFound
from perdure.files import Disk, Files
from perdure.records.buffers import digest_of
from perdure.records.frame import decode, encoder
from perdure.records.seal import Key
from perdure.records.values import INTERNAL, Batch, Draft
from perdure.testing.crashes import Image, SimulatedDisk

KEY = Key(b"k" * 32)
ENCODE = encoder(KEY)
STORE = "/data/store"
Contents = dict[str, bytes]


def draft(id_: str, payload: bytes, base: int = 0, flags: int = 0) -> Draft:
    return Draft(id_, base, flags, "shop:Item", 1, "", (), {}, payload)


def is_kept_apart(payload: bytes) -> bool:
    """Whether the run hands it over as a large piece as well."""
    return len(payload) > 500


@contextmanager
def small_journal(commits: int = 3) -> Iterator[None]:
    """Settle every few commits, so that a short run meets all that can happen."""
    before = filesystem_medium.JOURNAL_COMMITS
    filesystem_medium.JOURNAL_COMMITS = commits
    try:
        yield
    finally:
        filesystem_medium.JOURNAL_COMMITS = before


def open_store(disk: Disk, **settings: object) -> FilesystemBackend:
    return FilesystemBackend(STORE, new_key=lambda: KEY.id, files=Files(disk), **settings)  # type: ignore[arg-type]


def contents(backend: FilesystemBackend, at: int | None = None) -> Contents:
    """Every object's payload; each frame is verified, and is under its own id."""
    ids = [*backend.ids(), *backend.ids(internal=True)]
    if at is not None:
        ids = ALL_IDS
    found = {}
    for id_, frame in backend.read(ids, at).items():
        record = decode(frame, KEY)
        assert record.id == id_
        found[id_] = record.payload
    return found


ALL_IDS = ["Item.1", "Item.2", "Run.3", "Item.4", "Item.9", "Item.10", "Item.20"]


class Workload:
    """The run: what was submitted, what was acknowledged, and the contents after each commit."""

    def __init__(self) -> None:
        self.states: list[Contents] = [{}]
        self.acknowledged = 0
        self.numbers = 0  # no number up to this one may be given again
        self.progress = (0, 0, 0)

    def run(self, disk: Disk) -> None:
        backend = open_store(disk)
        for step in range(9):
            self.step(backend, step)
        backend.close()

    def step(self, backend: FilesystemBackend, step: int) -> None:
        if step == 0:
            run = draft("Run.3", b"run 1", flags=INTERNAL)
            self.commit(backend, draft("Item.1", b"one"), draft("Item.2", b"two"), run)
        elif step == 1:
            self.commit(backend, draft("Item.1", b"one, again", 1), draft("Item.4", b"four"))
        elif step == 2:
            self.reserve(backend, 3)
        elif step == 3:
            run = draft("Run.3", b"run 2", 1, INTERNAL)
            self.commit(backend, draft("Item.1", b"one, thrice", 2), run, removals={"Item.2": 1})
        elif step == 4:
            backend.reserve(2, durable=False)
            self.commit(backend, draft("Item.9", b"nine" * 300))
        elif step == 5:
            self.commit(backend, draft("Item.1", b"one, fourth", 3), draft("Item.4", b"4" * 900, 2))
        elif step == 6:
            self.commit(backend, draft("Item.10", b"ten"), removals={"Item.4": 5})
        elif step == 7:
            self.commit(backend, draft("Item.9", b"nine, again", 4), draft("Item.1", b"one, fifth", 5))
        else:
            self.commit(backend, draft("Item.9", b"nine, thrice", 7))

    def commit(self, backend: FilesystemBackend, *drafts: Draft, removals: dict[str, int] | None = None) -> None:
        state = {**self.states[self.acknowledged], **{each.id: each.payload for each in drafts}}
        for id_ in removals or {}:
            del state[id_]
        self.states[self.acknowledged + 1 :] = [state]
        self._note()
        pieces = {digest_of(each.payload): each.payload for each in drafts if is_kept_apart(each.payload)}
        revision = backend.apply(Batch(list(drafts), removals or {}, buffers=pieces), ENCODE).revision
        assert revision == self.acknowledged + 1
        self.acknowledged = revision
        self.numbers = max(self.numbers, *(int(each.id.partition(".")[2]) for each in drafts))
        self._note()

    def reserve(self, backend: FilesystemBackend, count: int) -> None:
        first = backend.reserve(count)
        assert first > self.numbers
        self.numbers = first + count - 1
        self._note()

    def _note(self) -> None:
        self.progress = (self.acknowledged, len(self.states), self.numbers)

    def check(self, image: Image) -> None:
        """From this image: a prefix of the commits, whole, with all acknowledged ones; and life goes on."""
        looked = self._look(SimulatedDisk(image))
        disk = SimulatedDisk(image)
        backend = open_store(disk)
        revision = backend.revision()
        assert self.acknowledged <= revision < len(self.states), (
            f"revision {revision}, acknowledged {self.acknowledged}"
        )
        assert looked in (None, self.states[revision]), "read-only and recovered differ"
        self.check_states(backend, revision)
        assert contents(backend) == self.states[revision]
        assert backend.describe().next_number > self.numbers, "numbers would come back"
        self._check_files(disk, self.states[revision])
        self._check_pieces(backend, revision)
        backend.close()
        recovered = disk.image()
        open_store(disk).close()
        assert disk.image() == recovered, "a second recovery changed something"
        self._live_on(disk, revision)

    def check_states(self, backend: FilesystemBackend, revision: int) -> None:
        for at in range(revision + 1):
            assert contents(backend, at) == self.states[at], f"at revision {at} of {revision}"

    def _look(self, disk: SimulatedDisk) -> Contents | None:
        before = disk.image()
        try:
            backend = open_store(disk, read_only=True)
        except StoreNotFound:
            assert not self.acknowledged
            return None
        found = contents(backend)
        backend.close()
        assert disk.image() == before, "read_only wrote"
        return found

    def _check_files(self, disk: SimulatedDisk, state: Contents) -> None:
        for folder, mine in ((STORE, False), (f"{STORE}/.perdure/own", True)):
            expected = sorted(id_ for id_ in state if id_.startswith("Run") == mine)
            assert [name for name in disk.list(folder) if name != ".perdure"] == expected
            for id_ in expected:
                assert decode(disk.read(f"{folder}/{id_}"), KEY).payload == state[id_]

    def _check_pieces(self, backend: FilesystemBackend, revision: int) -> None:
        """What commits brought is there and whole; what is there besides is whole too, and nothing is lost by it."""
        for state in self.states[: revision + 1]:
            for payload in filter(is_kept_apart, state.values()):
                assert bytes(backend.buffer(digest_of(payload))) == payload
        for digest, size in backend.buffers().items():
            content = bytes(backend.buffer(digest))
            assert (digest_of(content), len(content)) == (digest, size)

    def _live_on(self, disk: SimulatedDisk, revision: int) -> None:
        backend = open_store(disk)
        number = backend.reserve(1)
        assert number > self.numbers
        backend.apply(Batch([draft(f"New.{number}", b"new")]), ENCODE)
        again = open_store(SimulatedDisk(disk.image()), read_only=True)
        assert again.revision() == revision + 1
        assert contents(again) == {**self.states[revision], f"New.{number}": b"new"}
