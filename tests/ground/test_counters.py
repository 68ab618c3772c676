"""The machine's counter: numbers never come back."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from perdure.counters import Counter, machine_counter
from perdure.errors import CorruptRecord, StorageError
from perdure.files import Disk, Files
from perdure.ids import IdFactory
from perdure.testing.crashes import SimulatedDisk
from perdure.testing.faults import FaultyDisk


def test_numbers_are_consecutive_and_outlive_the_counter(tmp_path: Path):
    path = tmp_path / "deep" / "counter"
    assert Counter(path).reserve(3) == 1
    assert Counter(path).reserve() == 4
    assert Counter(path).reserve(0) == 5
    assert Counter(path).reserve(10**12) == 5
    assert Counter(path).reserve() == 5 + 10**12
    with pytest.raises(ValueError, match="-1"):
        Counter(path).reserve(-1)


@pytest.mark.parametrize("text", ["", "7", "7 00000000", "x 1", "-7 3a2b", "\xff"])
def test_a_damaged_counter_is_an_error_and_no_fresh_start(tmp_path: Path, text: str):
    path = tmp_path / "counter"
    Counter(path).reserve(7)
    path.write_text(text)
    with pytest.raises(CorruptRecord) as caught:
        Counter(path).reserve()
    assert caught.value.path == str(path)
    assert path.read_text() == text


def test_no_power_cut_brings_a_number_back():
    disk = SimulatedDisk()
    given = [0]

    def cut() -> None:
        for image in disk.images(random.Random(3), 12):
            assert Counter("/data/counter", Files(SimulatedDisk(image))).reserve() > given[-1]

    disk.after = cut
    counter = Counter("/data/counter", Files(disk))
    for count in (1, 5, 2):
        given.append(counter.reserve(count) + count - 1)
        cut()


def test_a_number_that_could_not_be_made_durable_is_not_given(tmp_path: Path):
    path = tmp_path / "counter"
    Counter(path).reserve(2)
    for at in range(4):
        with pytest.raises(StorageError):
            Counter(path, Files(FaultyDisk(Disk(), at))).reserve()
    assert Counter(path).reserve() in (3, 4)


def test_processes_and_threads_never_get_the_same_number():
    program = "from perdure.counters import machine_counter as c\nfor _ in range(20): print(c().reserve(2))"
    workers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.extend(machine_counter().reserve(2) for _ in range(20)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker in workers:
        numbers.extend(map(int, (worker.communicate()[0] or "").split()))
        assert worker.returncode == 0
    assert sorted(numbers) == list(range(1, 161, 2))


def test_a_factory_without_a_store_uses_it():
    assert IdFactory().new(5) == "int.1"
    factory = IdFactory("thing")
    factory.reserve(2)
    assert [factory.new(None), factory.new(None), factory.new(None)] == ["thing.2", "thing.3", "thing.4"]
