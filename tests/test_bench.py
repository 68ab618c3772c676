"""The benchmarks work: every program runs at a tiny size, ratios and limits are printed, a missed limit is told.

- Nothing is said about speed here: at this size the figures mean nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
SIZE = 100  # 5 jobs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One round of everything, and the folder with what it wrote."""
    folder = tmp_path_factory.mktemp("bench")
    command = [
        sys.executable, str(BENCH / "run.py"), "--size", str(SIZE), "--rounds", "1", "--folder", str(folder), "--check",
        "--json", str(folder / "figures.json"), "--write", str(folder / "page.md"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert "cannot be measured" not in done.stderr, done.stderr
    return done, folder


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks, and forgets all of them afterwards."""
    names = {path.stem for path in BENCH.glob("*.py")}
    monkeypatch.syspath_prepend(str(BENCH))
    kept = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}

    def imported(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield imported
    for name in names & sys.modules.keys():
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.mark.slow
def test_everything_is_measured_and_printed(whole, bench):
    done, _ = whole
    titles = [comparison.title for group in bench("run").COMPARISONS.values() for comparison in group]
    assert [title for title in titles if f"| {title} " not in done.stdout] == []
    number, amount = r"\d+\.\d\d", r"\d+ ms"
    columns = ["save_many", amount, amount, rf"{number} \(.*\)", number, rf"at most 1\.5: {number} (ok|MISSED)"]
    assert re.search(r" +\| +".join(columns), done.stdout)
    for executor in ("processes", "inline"):
        assert f"executor `{executor}`" in done.stdout
    assert "SQLite: write and fsync" in done.stdout


@pytest.mark.slow
def test_the_status_says_whether_a_limit_was_missed(whole):
    done, _ = whole
    assert done.returncode == (1 if "MISSED" in done.stdout else 0)
    assert ("Missed: " in done.stderr) == ("MISSED" in done.stdout)


@pytest.mark.slow
def test_figures_and_page_are_written_and_nothing_is_left(whole):
    done, folder = whole
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert {name: len(rounds) for name, rounds in figures["rounds"].items()} == {
        "objects": 1, "commits": 1, "flows": 1, "startup": 4,
    }  # fmt: skip
    assert figures["rounds"]["objects"][0]["kept save_many"] > 0
    assert (folder / "page.md").read_text(encoding="utf-8").endswith(done.stdout)
    assert sorted(os.listdir(folder)) == ["figures.json", "page.md"]


@pytest.mark.parametrize(("ours", "status"), [(1.4, 0), (1.6, 1)])
def test_check_compares_with_the_limit(bench, monkeypatch, capsys, ours, status):
    run, table = bench("run"), bench("table")
    monkeypatch.setitem(run.GROUPS, "objects", lambda folder, size, environment: {"ours": ours, "limit": 1.0})
    one = table.Comparison("made up", "ours", "limit", 1.5)
    monkeypatch.setitem(run.COMPARISONS, "objects", [one])
    given = ["--only", "objects", "--rounds", "3", "--size", "100"]
    assert run.main([*given, "--check"]) == status
    assert f"at most 1.5: {ours:.2f} {'MISSED' if status else 'ok'}" in capsys.readouterr().out
    assert run.main(given) == 0


def test_what_is_broken_is_told_and_the_rest_is_measured(bench, monkeypatch, capsys):
    run, work = bench("run"), bench("work")

    def broken(folder, size, environment):
        raise work.BrokenMeasurement("the sum is wrong")

    monkeypatch.setitem(run.GROUPS, "objects", broken)
    figures = {"flows inline": 2.0, "flow_limits commits": 1.0}
    monkeypatch.setitem(run.GROUPS, "flows", lambda folder, size, environment: figures)
    assert run.main(["--only", "objects", "--only", "flows"]) == 1
    printed = capsys.readouterr()
    assert "objects cannot be measured: the sum is wrong." in printed.err
    assert "flow inline / a commit a job" in printed.out


def test_wrong_use_is_one_sentence(bench, capsys):
    for given in (["--size", "99"], ["--rounds", "0"]):
        with pytest.raises(SystemExit, match="2"):
            bench("run").main(given)
        assert "--size is at least 100" in capsys.readouterr().err


def test_a_ratio_is_the_median_of_pairs(bench):
    table = bench("table")
    rounds = [{"ours": 2.0, "limit": 1.0}, {"ours": 30.0, "limit": 10.0}, {"ours": 4.0, "limit": 4.0}]
    row = table.row_of(table.Comparison("pairs", "ours", "limit", 1.9), rounds)
    assert (row.ratio, row.least, row.most, row.missed) == (2.0, 1.0, 3.0, True)
    assert (row.ours, row.limit) == (4.0, 4.0)


def test_limits_of_the_next_release_are_not_missed(bench):
    table = bench("table")
    row = table.row_of(table.Comparison("later", "ours", "limit", None, 1.1), [{"ours": 2.0, "limit": 1.0}])
    assert (row.missed, row.verdict) == (False, "next: at most 1.1: 2.00 not yet")


def test_a_figure_without_a_limit_side_counts_itself(bench):
    table = bench("table")
    rounds = [{"import": 0.15, "python": 0.02}, {"import": 0.12, "python": 0.01}]
    row = table.row_of(table.Comparison("import", "import", "", 0.1, less="python"), rounds)
    assert (round(row.ratio, 3), row.missed, row.relative) == (0.12, True, False)


def test_what_was_not_measured_is_no_row(bench):
    table = bench("table")
    assert table.row_of(table.Comparison("first job", "first job", "", 0.3), [{"python": 0.01}]) is None


def test_wrong_data_ends_the_benchmark(bench):
    with pytest.raises(bench("work").BrokenMeasurement, match="is 1, not 2"):
        bench("work").require(1, 2)
    assert bench("data").expected_sum(3) != bench("data").expected_sum(4)
