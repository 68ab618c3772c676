"""Reading what others replace and pack meanwhile: what is newest outside of transactions; inside, it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from places import Place

from perdure import CorruptRecord, NotFound, Persistable, SnapshotTooOld, Store
from perdure.backends.base import Backend
from perdure.upkeep import drop_unnamed

COUNT = 40


class Table(Persistable):
    __indexed__ = ("name",)

    def __init__(self, numbers: Any, name: str = ""):
        self.numbers, self.name = numbers, name


class Shelf(Persistable):
    def __init__(self, tables: list[Table]):
        self.tables = tables


def numbers(value: int) -> bytearray:
    return bytearray(value.to_bytes(2, "little")) * 40_000


def number_in(table: Table) -> int:
    return int.from_bytes(table.numbers[:2], "little")


def pack(store: Store) -> None:
    """What `store.pack(keep=1)` does in another process, which does not know of the transactions of this one."""
    store.backend.pack(store.revision())
    drop_unnamed(store)


def replace_and_pack(store: Store) -> None:
    """What the other process does to every table of the store."""
    with store.transaction():
        for table in store.find(Table):
            table.numbers = numbers(number_in(table) + 1000)
    pack(store)


@pytest.fixture
def shelf_id(place: Place) -> str:
    return str(place.open().save(Shelf([Table(numbers(n), "all") for n in range(COUNT)])))


class Others:
    """Another program, which does something as soon as it is asked to, once."""

    def __init__(self, place: Place, work: Callable[[Store], object] = replace_and_pack):
        self.store, self.work, self.is_done = place.open(), work, False

    def act(self) -> None:
        if not self.is_done:
            self.is_done = True
            in_thread(lambda: self.work(self.store))

    def before_pieces(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Act when the first large piece is about to be read."""
        for name in ("buffer", "buffer_parts"):
            monkeypatch.setattr(backend, name, self._first(getattr(backend, name)))

    def _first(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.act()
            return method(*arguments)

        return call


def in_thread(work: Callable[[], object]) -> None:
    import threading

    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def touched(others: Others, tables: Any) -> list[int]:
    """What is in each of the tables, looked at one after the other; the others come after ten."""
    found = []
    for table in tables:
        found.append(number_in(table))
        if len(found) == 10:
            others.act()
    return found


NEWEST = [n if n < 10 else n + 1000 for n in range(COUNT)]


def test_touching_goes_on_with_what_is_newest(place: Place, shelf_id: str) -> None:
    assert touched(Others(place), place.open().load(shelf_id).tables) == NEWEST


def test_going_through_a_class_goes_on_with_what_is_newest(place: Place, shelf_id: str) -> None:
    store = place.open()
    found = touched(Others(place), store.iterate(Table, batch=5))
    assert found[:10] + found[15:] == NEWEST[:10] + NEWEST[15:]  # those between were loaded before
    store = place.open()
    found = touched(Others(place), store.iterate(Table, batch=5, name="all"))
    assert found[15:] == [n + 2000 for n in range(15, COUNT)]


def test_in_a_transaction_it_is_told(place: Place, shelf_id: str) -> None:
    store = place.open()
    with store.transaction(), pytest.raises(SnapshotTooOld, match="when the transaction began"):
        touched(Others(place), store.load(shelf_id).tables)
    assert number_in(store.load(shelf_id).tables[0]) == 1000


def test_in_the_past_it_is_told(place: Place, shelf_id: str) -> None:
    store = place.open()
    past = store.at(store.revision())
    with pytest.raises(SnapshotTooOld):
        touched(Others(place), past.load(shelf_id).tables)


@pytest.mark.parametrize("how", ["load", "load_many", "find", "prefetch", "iterate", "touch"])
def test_pieces_that_go_between_a_record_and_them(
    place: Place, shelf_id: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, others = place.open(), Others(place)
    table_ids = [id_ for id_ in store.list() if id_.prefix == "Table"]
    ways: dict[str, Callable[[], Any]] = {
        "load": lambda: [store.load(id_) for id_ in table_ids],
        "load_many": lambda: store.load_many(table_ids),
        "find": lambda: store.find(Table, name="all"),
        "prefetch": lambda: store.load(shelf_id, prefetch="tables").tables,
        "iterate": lambda: store.iterate(Table),
        "touch": lambda: store.load(shelf_id).tables,
    }
    others.before_pieces(store.backend, monkeypatch)
    assert [number_in(table) for table in ways[how]()] == [n + 1000 for n in range(COUNT)]
    assert others.is_done


def test_what_is_removed_and_packed_while_it_is_found_is_not_found(
    place: Place, shelf_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.open()
    lonely = store.save(Table(numbers(77), "alone"))
    store.save_many([Table(numbers(78), "alone"), Table(numbers(79), "other")])

    def remove_and_pack(other: Store) -> None:
        other.remove(lonely)
        pack(other)

    store.invalidate_cache()
    others = Others(place, remove_and_pack)
    others.before_pieces(store.backend, monkeypatch)
    assert [number_in(table) for table in store.find(Table, name="alone")] == [78]
    assert others.is_done


def test_what_is_forgotten_while_it_is_read_is_not_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.open()
    id_ = place.open().save(Table(numbers(1)))
    others = Others(place, lambda other: other.forget(id_))
    others.before_pieces(store.backend, monkeypatch)
    with store.transaction(), pytest.raises(NotFound, match=str(id_)):
        store.load(id_)
    assert others.is_done


def test_what_is_really_damaged_is_told_as_damage(place: Place) -> None:
    store = place.open()
    id_ = place.open().save(Table(numbers(1)))
    store.backend.drop_buffers(store.backend.buffers(), store.revision())
    place.is_whole = False
    with pytest.raises(CorruptRecord, match=str(id_)):
        store.load(id_)
    store.save(Table(1))
    with store.transaction(), pytest.raises(CorruptRecord, match=str(id_)):
        store.load(id_)
