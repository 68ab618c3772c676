"""`make torture` tells its seeds, gives them to the tests, and says how a failed round is done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torture

HERE = Path(__file__).parent

TEST = """
from chances import SCALE, SEED, dice, more, seeded
from hypothesis import given, strategies as st
from pathlib import Path

def test_something():
    with Path(__file__).with_name("told.txt").open("a") as told:
        told.write(f"{SEED} {SCALE} {more(3)} {seeded(2)} {dice('a').random()}\\n")
    assert SEED != 12
"""


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A part of the torture that fails with seed 12."""
    path = tmp_path / "test_some.py"
    path.write_text(TEST)
    monkeypatch.setitem(torture.PARTS, "money", [str(path), "-p", "no:cacheprovider"])
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return tmp_path / "told.txt"


def test_each_round_has_another_seed_until_one_fails(part, capfd):
    assert torture.main(["--seed", "10", "--only", "money", "--scale", "3"]) == 1
    out = capfd.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("seed ")] == ["10:", "11:", "12:"]
    assert "assert 12 != 12" in out
    replay = 'make torture TORTURE_ARGUMENTS="--seed 12 --scale 3 --rounds 1 --only money"'
    assert out.rstrip().endswith(replay)
    told = [line.split() for line in part.read_text().splitlines()]
    assert [each[:4] for each in told] == [[str(seed), "3", "9", str(2 + seed * 1_000_003)] for seed in (10, 11, 12)]
    assert len({each[4] for each in told}) == 3
    assert torture.main(["--seed", "12", "--scale", "3", "--rounds", "1", "--only", "money"]) == 1
    assert part.read_text().splitlines()[-1] == part.read_text().splitlines()[-2]  # the same again


def test_it_ends_when_its_time_is_over_or_its_rounds_are(part, capfd):
    assert torture.main(["--seed", "1", "--only", "money", "--minutes", "0"]) == 0
    assert torture.main(["--seed", "1", "--only", "money", "--rounds", "2"]) == 0
    assert [line.split()[0] for line in part.read_text().splitlines()] == ["1", "1", "2"]


def test_without_atheris_fuzzing_is_left_out_visibly(monkeypatch, capsys):
    monkeypatch.setattr(torture.importlib.util, "find_spec", lambda name: None)
    assert torture.main(["--seed", "1", "--only", "fuzz", "--rounds", "1"]) == 0
    assert "fuzz … left out: pip install atheris" in capsys.readouterr().out


def test_fuzzing_gets_its_seed_and_an_end_and_fails_with_what_was_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torture.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torture, "HERE", tmp_path)
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "fuzz.py").write_text("import sys; print(sys.argv[2:]); sys.exit('found it')")
    assert torture.main(["--seed", "7", "--only", "fuzz", "--scale", "3"]) == 1
    out = capsys.readouterr().out
    assert "'-seed=7', '-max_total_time=90'" in out
    assert "found it" in out
    assert '--seed 7 --scale 3 --rounds 1 --only fuzz"' in out


@pytest.mark.parametrize("name", sorted(torture.PARTS))
def test_each_part_has_tests(name):
    environment = {**os.environ, "PERDURE_TORTURE_SEED": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *torture.PARTS[name]]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
