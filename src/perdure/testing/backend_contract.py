"""The contract of `perdure.backends.base` as tests: whoever writes a backend subclasses it and runs pytest.

- `BackendContract` is for every backend, and is all of it: what it inherits tells of queries, packing, undoing and
  large pieces. `SharedBackendContract`, beside this file, is for those whose medium outlives the process, and holds
  `BackendContract` too.
- Everything is asked through the contract's methods; what is inside a backend is its own affair.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from perdure.backends.base import CHUNK, FEW, Backend, NewKey, no_key
from perdure.errors import ConflictError, IdInUse, StoreClosed
from perdure.records.frame import parse_unverified
from perdure.records.values import Batch, Commit, Draft
from perdure.testing.backend_drafts import ENCODE, commit, draft, in_threads, payloads
from perdure.testing.backend_machine import BackendMachine
from perdure.testing.buffers_contract import BuffersContract
from perdure.testing.ease_contract import EaseContract
from perdure.testing.finding_contract import FindingContract
from perdure.testing.packing_contract import PackingContract
from perdure.testing.replaying_contract import ReplayingContract
from perdure.testing.undoing_contract import UndoingContract


class BackendContract(
    FindingContract, PackingContract, ReplayingContract, UndoingContract, BuffersContract, EaseContract, ABC
):
    """What holds for every backend."""

    machine_examples = 15  # of random histories

    @abstractmethod
    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        """A backend that keeps whatever it keeps below the folder `place`; it is new where nothing is there yet."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        backend = self.make_backend(tmp_path)
        yield backend
        backend.close()

    def test_a_new_store_asks_for_its_key_once(self, tmp_path: Path) -> None:
        asked: list[int] = []

        def new_key() -> int:
            asked.append(17)
            return 17

        backend = self.make_backend(tmp_path, new_key)
        commit(backend, draft("Item.1"))
        assert backend.describe().key == 17
        assert asked == [17]
        backend.close()

    # -- numbers -----------------------------------------------------------------------------------------

    def test_an_empty_store_says_so(self, backend: Backend) -> None:
        told = backend.describe()
        assert (told.format, told.revision, told.next_number) == (1, 0, 1)
        assert len(bytes.fromhex(told.store)) == 16
        assert backend.revision() == 0
        assert [*backend.ids(), *backend.ids(internal=True), *backend.scan(), *backend.commits()] == []
        assert backend.changes(0) == (0, set())
        assert {**backend.read(["Item.1"]), **backend.read([]), **backend.classes(["Item.1"])} == {}
        assert backend.history("Item.1") == []
        assert backend.referrers(["Item.1"]) == backend.referrers([]) == {}

    def test_reserved_numbers_are_given_once(self, backend: Backend) -> None:
        assert backend.reserve(3) == 1
        assert backend.reserve(1, durable=False) == 4
        assert backend.reserve(2) == 5
        assert backend.describe().next_number == 7

    def test_numbers_from_elsewhere_move_the_counter_up(self, backend: Backend) -> None:
        commit(backend, draft("Item.41"), draft("Item.7"))
        assert backend.reserve(1) == 42

    def test_unused_numbers_are_taken_back_if_nobody_reserved_since(self, backend: Backend) -> None:
        first = backend.reserve(10)
        backend.apply(Batch([draft(f"Item.{first}")], unused=(first + 1, first + 10)), ENCODE)
        assert backend.reserve(1) == first + 1
        first = backend.reserve(10)
        other = backend.reserve(1)
        backend.apply(Batch([draft(f"Item.{first}")], seen=1, unused=(first + 1, first + 10)), ENCODE)
        assert backend.reserve(1) == other + 1

    def test_one_number_is_one_id(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"pen"), draft("Item.2"), draft("Item.3"))
        assert backend.read(["User.1"]) == {}
        assert set(backend.read(["User.1", "Item.2", "Item.3", "Item.4"])) == {"Item.2", "Item.3"}
        assert backend.classes(["User.1", "Item.2"]) == {"Item.2": "shop:Item"}
        assert backend.history("User.1") == []
        assert backend.read(["User.1"], at=1) == {}

    def test_a_number_is_never_used_again(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"), draft("Item.2"))
        commit(backend, removals={"Item.1": 1})
        for taken in ("Item.1", "User.1", "Item.2", "User.2"):
            for others in ([], [draft("Item.5")]):
                with pytest.raises(IdInUse) as caught:
                    commit(backend, *others, draft(taken), seen=backend.revision())
                assert caught.value.ids == (taken,)
        assert backend.revision() == 2
        assert backend.ids() == ["Item.2"]
        commit(backend, draft("Item.3"), draft("Item.4"), draft("Item.5"))

    # -- one apply is one step ---------------------------------------------------------------------------

    def test_a_commit_is_the_next_revision(self, backend: Backend) -> None:
        assert commit(backend, draft("Item.1", b"pen")).revision == 1
        assert commit(backend, draft("Item.2", b"ink")).revision == 2
        assert commit(backend, draft("Item.1", b"pencil", base=1), seen=2).revision == 3
        assert backend.revision() == backend.describe().revision == 3
        assert payloads(backend.read(["Item.1", "Item.2"])) == {"Item.1": b"pencil", "Item.2": b"ink"}
        assert parse_unverified(backend.read(["Item.1"])["Item.1"]).revision == 3

    def test_frames_come_back_as_they_were_made(self, backend: Backend) -> None:
        long = "x" * 70_000
        drafts = [
            draft("Item.1"),
            draft("Item.2", bytes(range(256)) * 20_000, references=["Item.1", "Tag-2.10"], class_name="pkg.mod:A.B"),
            Draft("Größe.3", 0, 8, "m:Größe", 3, "", (), {"note": long, "n": None, "x": 1.5}, b"\n\0"),
        ]
        commit(backend, *drafts)
        frames = {each.id: ENCODE(each, 1) for each in drafts}
        assert backend.read(frames) == frames
        assert list(backend.scan()) == list(frames.values())
        assert backend.classes(frames) == {each.id: each.class_name for each in drafts}

    @pytest.mark.parametrize("size", [1, 2, 3, 40, 41, CHUNK + 1])
    def test_many_records_at_once(self, backend: Backend, size: int) -> None:
        ids = [f"Item.{number * 7}" for number in range(1, size + 1)]
        commit(backend, *(draft(id_, id_.encode()) for id_ in reversed(ids)))
        assert payloads(backend.read(reversed(ids))) == {id_: id_.encode() for id_ in ids}
        commit(backend, *(draft(id_, b"new", base=1) for id_ in ids), draft(f"Item.{size * 7 + 1}"), seen=1)
        assert payloads(backend.read(ids)) == dict.fromkeys(ids, b"new")
        assert payloads(backend.read(ids, at=1)) == {id_: id_.encode() for id_ in ids}
        commit(backend, removals=dict.fromkeys(ids, 2))
        assert {**backend.read(ids), **backend.classes(ids)} == {}
        assert payloads(backend.read(ids, at=2)) == dict.fromkeys(ids, b"new")

    def test_reading_gives_what_was_asked_for_only(self, backend: Backend) -> None:
        ids = [f"Item.{number}" for number in range(1, 41)]
        commit(backend, *(draft(id_) for id_ in ids))
        for asked in (ids[3:20], ids[::-1], [*ids[:10], *ids[11:20]], [ids[0], ids[2], ids[2], ids[3]], ids[5:6]):
            assert set(backend.read(asked)) == set(backend.read(iter(asked), at=1)) == set(asked)
            assert set(backend.classes(iter(asked))) == set(asked)
        assert set(backend.read(["Item.1", "User.2", "Item.3"])) == {"Item.1", "Item.3"}

    def test_a_failed_commit_changes_nothing(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"pen"), draft("Item.2"))
        before = backend.describe()

        def encode(each: Draft, revision: int) -> bytes:
            if each.id == "New.99":
                raise ZeroDivisionError
            return ENCODE(each, revision)

        drafts = [draft("Item.1", b"other", base=1), draft("Other.50", class_name="other:Class"), draft("New.99")]
        with pytest.raises(ZeroDivisionError):
            backend.apply(Batch(drafts, {"Item.2": 1}), encode)
        assert backend.describe() == before
        assert payloads(backend.read(["Item.1", "Item.2", "Other.50"])) == {"Item.1": b"pen", "Item.2": b""}
        assert len(backend.history("Item.1")) == 1
        assert backend.apply(Batch(drafts, {"Item.2": 1}), ENCODE).revision == 2
        assert backend.classes(["Other.50"]) == {"Other.50": "other:Class"}
        assert len(list(backend.scan(class_name="other:Class"))) == 1

    # -- conflicts ---------------------------------------------------------------------------------------

    def test_first_committer_wins(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"), draft("Item.2"), draft("Item.3"))
        commit(backend, draft("Item.1", b"first", base=1), seen=1, removals={"Item.3": 1})
        stale: list[tuple[Batch, dict[str, tuple[int, int]]]] = [
            (Batch([draft("Item.1", b"second", base=1)], seen=1), {"Item.1": (1, 2)}),
            (Batch([], {"Item.1": 1}, seen=1), {"Item.1": (1, 2)}),
            (Batch([draft("Item.9")], {}, {"Item.1": 1, "Item.2": 1}, seen=1), {"Item.1": (1, 2)}),
            (Batch([draft("Item.3", base=1)], {}, {"Item.1": 2}), {"Item.3": (1, 0)}),
            (Batch([], {"Item.3": 1}), {"Item.3": (1, 0)}),
            (Batch([draft("Item.2", base=2), draft("User.1", base=2)]), {"Item.2": (2, 1), "User.1": (2, 0)}),
            (Batch([], {}, {"Item.7": 1}), {"Item.7": (1, 0)}),
        ]
        for batch, revisions in stale:
            with pytest.raises(ConflictError) as caught:
                backend.apply(batch, ENCODE)
            assert caught.value.revisions == revisions
            assert set(caught.value.ids) == set(revisions)
            assert caught.value.retryable
        assert backend.revision() == 2
        assert payloads(backend.read(["Item.1", "Item.2", "Item.9"])) == {"Item.1": b"first", "Item.2": b""}

    def test_what_others_left_alone_is_no_conflict(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"), draft("Item.2"))
        commit(backend, draft("Item.1", base=1), seen=1)
        assert commit(backend, draft("Item.2", base=1), seen=1, checks={"Item.1": 2}).revision == 3

    def test_what_is_referred_to_must_be_there(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"), draft("Item.2"), draft("Item.3"))
        commit(backend, seen=1, removals={"Item.2": 1, "Item.3": 1})
        for seen in (1, 2):
            with pytest.raises(ConflictError) as caught:
                commit(
                    backend, draft("User.4", references=["Item.3"]), seen=seen, needed=["Item.1", "Item.3", "Item.2"]
                )
            assert caught.value.ids == ("Item.2", "Item.3")
            assert caught.value.revisions == {"Item.2": (seen, 0), "Item.3": (seen, 0)}
        with pytest.raises(ConflictError):
            commit(backend, draft("User.4"), needed=["User.1"])  # another prefix is another id
        assert commit(backend, draft("User.4"), needed=["Item.1", "User.4"]).revision == 3

    def test_what_others_came_to_refer_to_is_not_removed(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"))
        commit(backend, draft("Item.11", references=["Item.11"]), draft("Note.2", b"Item.1"))
        commit(backend, draft("Item.3", references=["Item.11", "Item.1"]), seen=2)
        for seen in (1, 2):
            with pytest.raises(ConflictError, match=r"Item\.3, which refers to Item\.1,") as caught:
                commit(backend, seen=seen, removals={"Item.1": 1}, unreferred=["Item.1"])
            assert (caught.value.ids, caught.value.revisions) == ((), {})
        assert backend.revision() == 3
        commit(backend, draft("Item.3", base=3), draft("Other.4"), seen=3)
        assert commit(backend, seen=2, removals={"Item.1": 1}, unreferred=["Item.1"]).revision == 5
        assert commit(backend, seen=1, removals={"Item.11": 2}, unreferred=["Item.11"]).revision == 6

    def test_who_refers_to_what_is_known_after_packing(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"))
        commit(backend, draft("Item.2", references=["Item.1"]), seen=1)
        commit(backend, draft("Other.3"), seen=2)
        backend.pack(3)
        with pytest.raises(ConflictError, match=r"Item\.2, which refers to Item\.1,"):
            commit(backend, seen=1, removals={"Item.1": 1}, unreferred=["Item.1"])
        assert commit(backend, seen=1, removals={"Item.2": 2}, unreferred=["Item.2"]).revision == 4

    # -- the past ----------------------------------------------------------------------------------------

    def test_reading_at_a_revision(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"1"), draft("Item.2", b"1"))
        commit(backend, draft("Item.1", b"2", base=1, class_name="shop:Pen"), draft("Item.3", b"2"), seen=1)
        commit(backend, seen=2, removals={"Item.1": 2})
        ids = ["Item.1", "Item.2", "Item.3"]
        expected = [
            {},
            {"Item.1": b"1", "Item.2": b"1"},
            {"Item.1": b"2", "Item.2": b"1", "Item.3": b"2"},
            {"Item.2": b"1", "Item.3": b"2"},
        ]
        for revision, there in enumerate(expected):
            assert payloads(backend.read(ids, at=revision)) == there
            assert set(backend.classes(ids, at=revision)) == set(there)
            for id_ in ids:
                assert payloads(backend.read([id_], at=revision)) == {i: p for i, p in there.items() if i == id_}
        assert backend.classes(ids, at=1)["Item.1"] == "shop:Item"
        assert backend.classes(ids, at=2)["Item.1"] == "shop:Pen"
        assert backend.read(ids) == backend.read(ids, at=3)

    def test_looking_over_all_at_a_revision(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"), draft("Item.2"), draft("Root.3", internal=True))
        commit(backend, draft("Item.1", base=1, class_name="shop:Pen"), draft("User.4"), removals={"Item.2": 1})
        commit(backend, draft("Root.3", base=1), removals={"Item.1": 2})  # now the user's

        def numbers(at: int | None, **wanted: object) -> list[int]:
            return [int(parse_unverified(f).id[-1]) for f in backend.scan(at=at, **wanted)]  # type: ignore[arg-type]

        users = [["Item.1", "Item.2"], ["Item.1", "User.4"], ["Root.3", "User.4"]]
        own: list[list[str]] = [["Root.3"], ["Root.3"], []]
        assert [backend.ids(at=at) for at in (0, 1, 2, 3)] == [[], *users]
        assert [backend.ids(internal=True, at=at) for at in (0, 1, 2, 3)] == [[], *own]
        assert backend.ids() == users[-1]
        assert [numbers(at) for at in (1, 2, 3, None)] == [[1, 2, 3], [1, 3, 4], [3, 4], [3, 4]]
        assert numbers(1, class_name="shop:Item") == [1, 2, 3]
        assert numbers(2, class_name="shop:Item", internal=False, after=1) == [4]
        assert numbers(2, class_name="shop:Pen") == [1]
        assert numbers(1, internal=True) == [3]
        assert [parse_unverified(f).revision for f in backend.scan(at=1)] == [1, 1, 1]

    def test_the_history_of_an_object(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"1"), draft("Item.2"))
        commit(backend, draft("Item.1", b"2", base=1))
        commit(backend, removals={"Item.1": 2})
        versions = backend.history("Item.1")
        assert [version.revision for version in versions] == [3, 2, 1]
        assert versions[0].frame is None
        assert [parse_unverified(version.frame or b"").payload for version in versions[1:]] == [b"2", b"1"]
        assert [version.revision for version in backend.history("Item.2")] == [1]

    def test_commits_are_told_newest_first(self, backend: Backend) -> None:
        batch = Batch([draft("Item.2"), draft("Item.1"), draft("Item.9")], time=1.5, note="first ☀", code="c0de")
        backend.apply(batch, ENCODE)
        commit(backend, removals={"Item.2": 1})
        backend.apply(Batch([], note="nothing"), ENCODE)
        first = Commit(1, 1.5, "first ☀", "c0de", (1, 2, 9))
        second, third = Commit(2, 0.0, "", "", (2,)), Commit(3, 0.0, "nothing", "", ())
        assert backend.commits() == [third, second, first]
        assert backend.commits(limit=1) == [third]
        assert backend.commits(before=3) == [second, first]
        assert backend.commits(before=3, limit=1) == [second]
        assert backend.commits(before=1) == []

    def test_changes_since_a_revision(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"), draft("Item.2"))
        commit(backend, draft("Item.3"), seen=1, removals={"Item.2": 1})
        assert backend.changes(0) == (2, {1, 2, 3})
        assert backend.changes(1) == (2, {2, 3})
        assert backend.changes(2) == (2, set())

    # -- looking over all --------------------------------------------------------------------------------

    def test_scans_go_by_number_and_sort_by_class(self, backend: Backend) -> None:
        commit(
            backend,
            draft("perdure-Root.30", internal=True, class_name="perdure:Root"),
            draft("User.4", class_name="shop:User"),
            draft("Item.10"),
            draft("Item.2"),
            draft("perdure-Root.3", internal=True, class_name="perdure:Root"),
            draft("Both.5", internal=True),  # perdure's own of a class that the user has objects of too
        )

        def numbers(**wanted: object) -> list[int]:
            return [int(parse_unverified(f).id.rpartition(".")[2]) for f in backend.scan(**wanted)]  # type: ignore[arg-type]

        assert backend.ids() == ["Item.2", "User.4", "Item.10"]
        assert backend.ids(internal=True) == ["perdure-Root.3", "Both.5", "perdure-Root.30"]
        assert numbers() == [2, 3, 4, 5, 10, 30]
        assert numbers(after=3) == [4, 5, 10, 30]
        assert numbers(internal=False) == [2, 4, 10]
        assert numbers(internal=True) == [3, 5, 30]
        assert numbers(internal=True, after=3) == [5, 30]
        assert numbers(class_name="shop:Item") == [2, 5, 10]
        assert numbers(class_name="shop:Item", internal=False, after=2) == [10]
        assert numbers(class_name="shop:Item", internal=True) == [5]
        assert numbers(class_name="perdure:Root") == [3, 30]
        assert numbers(class_name="perdure:Root", internal=False) == numbers(class_name="no:Such") == []

    def test_a_scan_outlasts_other_commits(self, backend: Backend) -> None:
        many = 2 * CHUNK + 10
        commit(backend, *(draft(f"Item.{number}", internal=number % 2 > 0) for number in range(1, many + 1)))
        for internal in (None, True, False):
            seen = []
            scan = backend.scan(internal=internal)
            for frame in scan:
                seen.append(parse_unverified(frame).id)
                if len(seen) == 3:
                    commit(backend, draft(f"New.{backend.reserve(1)}", internal=True))
            assert [id_ for id_ in seen if id_.startswith("Item")] == [
                f"Item.{number}" for number in range(1, many + 1) if internal is None or internal == (number % 2 > 0)
            ]

    def test_referrers(self, backend: Backend) -> None:
        commit(
            backend,
            draft("Item.1", references=["Item.1", "Item.11"]),
            draft("Item.11", b"Item.1 is only mentioned"),
            draft("User.20", references=["Item.11", "Item.1"]),
            draft("Root.3", references=["Item.1"], internal=True),
        )
        expected = {"Item.1": ["Root.3", "User.20"], "Item.11": ["Item.1", "User.20"]}
        assert backend.referrers(["Item.1", "Item.11", "User.20"]) == expected
        assert backend.referrers([*expected, *(f"None.{number}" for number in range(100, 101 + FEW))]) == expected
        commit(backend, draft("Root.3", base=1, internal=True), removals={"User.20": 1})
        assert backend.referrers(["Item.1"]) == {}

    # -- threads, the end, random histories --------------------------------------------------------------

    def test_threads_lose_nothing(self, backend: Backend) -> None:
        commit(backend, draft("Sum.1", b"0"))

        def work() -> None:
            for _ in range(10):
                number = backend.reserve(1, durable=False)
                while True:
                    seen = backend.revision()
                    record = parse_unverified(backend.read(["Sum.1"])["Sum.1"])
                    more = draft("Sum.1", b"%d" % (int(record.payload) + 1), base=record.revision)
                    try:
                        commit(backend, more, draft(f"Item.{number}"), seen=seen if record.revision <= seen else 0)
                        break
                    except ConflictError:
                        continue

        in_threads(work, 4)
        assert payloads(backend.read(["Sum.1"])) == {"Sum.1": b"40"}
        assert len(backend.ids()) == 41
        assert [each.revision for each in backend.commits()] == list(range(41, 0, -1))

    def test_after_close_every_call_raises(self, backend: Backend) -> None:
        commit(backend, draft("Item.1"))
        backend.close()
        backend.close()
        calls: list[Callable[[], object]] = [
            backend.describe,
            backend.revision,
            lambda: backend.reserve(1),
            lambda: commit(backend, draft("Item.2")),
            lambda: backend.read(["Item.1"]),
            lambda: backend.read([]),
            lambda: backend.read(["Item.1"], at=1),
            lambda: backend.classes(["Item.1"]),
            backend.ids,
            lambda: list(backend.scan()),
            lambda: list(backend.scan(class_name="shop:Item")),
            lambda: backend.changes(0),
            backend.commits,
            lambda: backend.history("Item.1"),
            lambda: backend.referrers(["Item.1"]),
        ]
        for call in calls:
            with pytest.raises(StoreClosed):
                call()

    def test_random_histories_agree_with_the_memory(self, tmp_path: Path) -> None:
        places = (tmp_path / str(number) for number in range(1_000_000))

        def make() -> Backend:
            place = next(places)
            place.mkdir()
            return self.make_backend(place)

        run_state_machine_as_test(
            lambda: BackendMachine(make),  # type: ignore[arg-type]
            settings=settings(
                max_examples=self.machine_examples,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
