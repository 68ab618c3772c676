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
import servers

BENCH = Path(__file__).resolve().parent.parent / "bench"
SIZE = 100  # 5 jobs
NO_SERVER = "postgresql://nobody@127.0.0.1:1/nothing"


def run(*arguments: str, server: str = NO_SERVER) -> subprocess.CompletedProcess[str]:
    """The program itself."""
    environment = {**os.environ, "PERDURE_BENCH_POSTGRESQL_URL": server}
    command = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One quick round of everything with the rivals that are here, and the folder with what it wrote."""
    folder = tmp_path_factory.mktemp("bench")
    page = folder / "page.md"
    page.write_text("# Before\n\n<!-- measured: begin -->\nold\n<!-- measured: end -->\n\nAfter.\n", encoding="utf-8")
    done = run(
        "--quick", "--size", str(SIZE), "--folder", str(folder), "--check",
        "--json", str(folder / "figures.json"), "--write", str(page),
    )  # fmt: skip
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


def titles(bench, setting) -> list[str]:
    run = bench("run")
    groups = [group for group in run.GROUPS if group != "postgresql"]
    return [comparison.title for group in groups for comparison in run.comparisons(group, setting)]


@pytest.mark.slow
def test_everything_is_measured_and_printed(whole, bench):
    done, _ = whole
    setting = bench("run").Setting(bench("plan").ROWS, SIZE, 1000, 100, (), {})
    assert [title for title in titles(bench, setting) if f"| {title} " not in done.stdout] == []
    number, amount = r"\d+\.\d\d", r"[\d.]+ (?:ms|s|µs)"
    columns = ["save_many", amount, amount, rf"{number} \(.*\)", number, rf"at most 1: {number} (ok|MISSED)"]
    assert re.search(r" +\| +".join(columns), done.stdout)
    for executor in ("processes", "inline"):
        assert f"executor `{executor}`" in done.stdout
    assert "SQLite: write and fsync" in done.stdout
    assert re.search(r"^- load average at the start [\d.]+, at the end [\d.]+", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_every_rival_is_measured_or_said_to_be_absent(whole, bench):
    done, folder = whole
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))["rounds"]["objects"][0]
    head = next(line for line in done.stdout.splitlines() if line.startswith("| what"))
    peers = bench("peers")
    for rival in peers.RIVALS:
        absent = f"- {rival.column}: not installed here" in done.stdout
        assert (rival.column in head) is not absent
        measured = {name.removeprefix(f"{rival.side} ") for name in figures if name.startswith(rival.side)}
        wanted = {"save", "bytes", "touch", "again", "load each", "memory", "change one", "change cold", "commits"}
        assert (wanted | {"save rich", "commits rich"} <= measured) is not absent
    assert "shelve" in head  # a part of Python
    assert "- PostgreSQL: not measured: no server answers at postgresql://127.0.0.1:1/nothing: " in done.stdout


@pytest.mark.slow
def test_the_status_says_whether_a_limit_was_missed(whole):
    done, _ = whole
    assert done.returncode == (1 if "MISSED" in done.stdout else 0)
    assert ("Missed: " in done.stderr) == ("MISSED" in done.stdout)


@pytest.mark.slow
def test_figures_and_page_are_written_and_nothing_is_left(whole):
    done, folder = whole
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    rounds = {name: len(rounds) for name, rounds in figures["rounds"].items() if name != "postgresql"}
    assert rounds == {"objects": 1, "large": 1, "prevalence": 1, "flows": 1, "code": 1, "startup": 4}
    assert figures["rounds"]["objects"][0]["kept save_many"] > 0
    page = (folder / "page.md").read_text(encoding="utf-8")
    assert page == f"# Before\n\n<!-- measured: begin -->\n\n{done.stdout}\n<!-- measured: end -->\n\nAfter.\n"
    assert sorted(os.listdir(folder)) == ["figures.json", "page.md"]


def test_postgresql_is_measured(bench, tmp_path):
    figures = tmp_path / "figures.json"
    arguments = ("--quick", "--size", str(SIZE), "--only", "postgresql", "--json", str(figures))
    done = run(*arguments, server=servers.url_of("postgresql"))
    assert done.returncode == 0, done.stderr
    titles = [comparison.title for comparison in bench("plan").POSTGRESQL]
    assert [title for title in titles if f"| {title} " not in done.stdout] == []
    assert re.search(r"^- PostgreSQL \d+\.\d+, synchronous_commit=", done.stdout, re.MULTILINE)
    measured = json.loads(figures.read_text(encoding="utf-8"))["rounds"]["postgresql"][0]
    names = {f"{side}_postgresql {figure}" for side in ("limits", "kept") for figure in ("save", "load", "touch")}
    assert names <= measured.keys()


def test_a_database_of_its_own_is_dropped_also_after_an_error(bench, monkeypatch):
    postgresql, broken = bench("postgresql"), bench("work").BrokenMeasurement
    name = f"perdure_bench_test_{os.getpid()}"
    found = f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"
    monkeypatch.setenv(postgresql.VARIABLE, servers.url_of("postgresql"))

    def make_it_twice() -> None:
        with postgresql.database(name, {"KEPT": "yes"}) as environment:
            assert environment["KEPT"] == "yes"
            assert f"/{name}" in environment[postgresql.VARIABLE]
            assert servers.query("postgresql", found) == [(1,)]
            with postgresql.database(name, {}):
                raise AssertionError("the same database was made twice")

    with pytest.raises(broken, match=f'no database can be made: database "{name}" already exists'):
        make_it_twice()
    assert servers.query("postgresql", found) == [(0,)]


def test_only_what_a_row_needs_is_measured(tmp_path):
    figures = tmp_path / "figures.json"
    done = run("--quick", "--size", str(SIZE), "--only", "change-one", "--peers", "none", "--json", str(figures))
    measured = json.loads(figures.read_text(encoding="utf-8"))["rounds"]
    assert (done.returncode, list(measured)) == (0, ["objects"])
    sides = {name.split()[0] for name in measured["objects"][0]}
    assert sides == {"limits", "kept"}
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" |")[0] for row in rows[2:]] == ["| 100 commits of one change, all held"]


@pytest.mark.parametrize(("ours", "status"), [(1.4, 0), (1.6, 1)])
def test_check_compares_with_the_limit(bench, monkeypatch, capsys, ours, status):
    run, table = bench("run"), bench("table")
    monkeypatch.setitem(run.GROUPS, "flows", lambda folder, setting: {"ours": ours, "limit": 1.0})
    monkeypatch.setattr(run.plan, "FLOWS", [table.Comparison("made up", "ours", "limit", 1.5)])
    given = ["--only", "flows", "--rounds", "3", "--size", "100"]
    assert run.main([*given, "--check"]) == status
    assert f"at most 1.5: {ours:.2f} {'MISSED' if status else 'ok'}" in capsys.readouterr().out
    assert run.main(given) == 0


def test_the_limits_are_those_that_were_set(bench):
    plan = bench("plan")
    large = [one for row in plan.large(1_000_000, 10_000).values() for one in row]
    kept = [one for stage in plan.OBJECTS.values() for one in stage.comparisons] + large + plan.POSTGRESQL
    assert {one.title: one.at_most for one in kept if one.at_most is not None} == {
        "save all in one commit, save_many": 1.0,
        "save_many with a seal / without": 1.15,
        "load_many with a seal / without": 1.2,
        "loads of a small pickle without a seal": 50e-6,
        "load_many without the key, for each object": 50e-6,
        "save all in one commit, transaction": 1.0,
        "300 commits of one new object": 1.2,
        "load all cold, load_many": 1.1,
        "load all cold and look at all": 1.1,
        "load all cold through ghosts": 2.2,
        "load all cold by id, one by one": 2.2,
        "load all again by id, warm": 5.0,
        "load all of a versioned dataclass, nothing to upgrade / of a plain class": 1.03,
        "load 2,000, change, commit, cold": 1.2,
        "change 2,000 held, commit": 1.2,
        "100 commits of one change, all held": 1.5,
        "save all, with set, dataclass, shared text": 1.2,
        "300 commits of one of these": 1.2,
        "bytes on disk for an object, history on": 1.3,
        "bytes on disk for an object, history off": 1.2,
        "memory to open and load one": 30.0,
        "memory to walk 1,000,000 objects": 150.0,
        "100 commits in a store of 1,000,000 / of 10,000": 1.3,
        "rename the class of 1,000,000 / read and write their rows": 3.0,
        "check five times as many / read every record": 3.0,
        "PostgreSQL: save all in one commit": 1.3,
        "PostgreSQL: load all cold, load_many": 1.3,
        "PostgreSQL: load all cold and look at all": 1.3,
    }


def test_what_is_broken_is_told_and_the_rest_is_measured(bench, monkeypatch, capsys):
    run, work = bench("run"), bench("work")

    def broken(folder, setting):
        raise work.BrokenMeasurement("the sum is wrong")

    monkeypatch.setitem(run.GROUPS, "objects", broken)
    monkeypatch.setitem(run.GROUPS, "flows", lambda folder, setting: {"flows inline": 2.0, "flow_limits commits": 1.0})
    assert run.main(["--only", "save", "--only", "flows"]) == 1
    printed = capsys.readouterr()
    assert "objects cannot be measured: the sum is wrong." in printed.err
    assert "flow inline / a commit a job" in printed.out


def test_a_rival_that_breaks_stops_nobody_else(bench, monkeypatch, tmp_path, capsys):
    run, peers = bench("run"), bench("peers")
    broken = peers.Present(peers.Rival("Broken", "no_such_side", "", ""), sys.executable, "")
    shelf = peers.Present(next(one for one in peers.RIVALS if one.column == "shelve"), sys.executable, "")
    setting = run.Setting(("save",), SIZE, 1000, 100, (broken, shelf), run.own_environment(tmp_path))
    figures = run.measure_objects(tmp_path, setting)
    assert figures["peer_shelve save"] > 0
    assert "Broken cannot be measured: no_such_side save ended with status 1." in capsys.readouterr().err


def test_an_interpreter_without_the_rival_is_named(bench, tmp_path):
    peers = bench("peers")
    gc3pie = next(rival for rival in peers.RIVALS if rival.column == "gc3pie")
    said = peers.look_for(gc3pie, str(tmp_path / "python"))
    assert said == f"gc3pie: not installed here ({tmp_path / 'python'}: No such file or directory)"
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho 'No module named gc3libs' >&2\nexit 1\n", encoding="ascii")
    bare.chmod(0o755)
    assert peers.look_for(gc3pie, str(bare)) == f"gc3pie: not installed here ({bare}: No module named gc3libs)"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--size", "99"], "--size is at least 100"),
        (["--rounds", "0"], "--rounds at least 1"),
        (["--large", "999"], "--large is at least 1,000"),
        (["--peers", "ZODB,Nobody"], "there is no Nobody; there are ZODB"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--write", "nowhere.md"], "nowhere.md has no place for the table"),
    ],
)
def test_wrong_use_is_one_sentence(bench, capsys, given, said):
    with pytest.raises(SystemExit, match="2"):
        bench("run").main(given)
    assert said in capsys.readouterr().err


def test_the_page_of_the_documentation_has_its_place(bench):
    assert bench("report").has_markers(bench("run").PAGE)


def test_a_ratio_is_the_median_of_pairs(bench):
    table = bench("table")
    rounds = [{"ours": 2.0, "limit": 1.0}, {"ours": 30.0, "limit": 10.0}, {"ours": 4.0, "limit": 4.0}]
    row = table.row_of(table.Comparison("pairs", "ours", "limit", 1.9), rounds)
    assert (row.ratio, row.least, row.most, row.missed) == (2.0, 1.0, 3.0, True)
    assert (row.ours, row.limit) == (4.0, 4.0)


def test_rivals_are_compared_with_the_same_limit(bench):
    table = bench("table")
    rounds = [
        {"ours": 2.0, "limit": 1.0, "one": 3.0, "two": 5.0},
        {"ours": 2.0, "limit": 2.0, "one": 8.0},
        {"ours": 2.0, "limit": 1.0},
    ]
    compared = table.Comparison("made up", "ours", "limit", rivals={"One": "one", "Two": "two", "Three": "three"})
    row = table.row_of(compared, rounds)
    assert row.rivals == {"One": 3.5, "Two": 5.0}
    printed = table.render_rows([row], ["Three", "Two", "One"]).splitlines()
    assert re.search(r"\| Two +\| One +\|$", printed[0])
    assert re.search(r"\| 5.00 +\| 3.50 +\|$", printed[2])
    alone = table.row_of(compared._replace(limit="", unit="MiB"), rounds)
    assert alone.rivals == {"One": 5.5, "Two": 5.0}
    assert table.cells_of(alone, ["Two"])[-1] == "5 MiB"


def test_what_perdure_cannot_do_yet_is_a_row_that_says_so(bench):
    table = bench("table")
    one = table.Comparison("later", "ours", "limit", 1.1, rivals={"One": "one"})
    row = table.row_of(one, [{"limit": 1.0, "one": 2.0}, {"limit": 3.0}])
    assert (row.ours, row.limit, row.missed, row.rivals) == (None, 2.0, False, {"One": 2.0})
    assert table.cells_of(row, ["One"]) == ["later", "2.00 s", "", "", "", "at most 1.1: not there yet", "2.00"]


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


def test_garbage_is_collected_in_the_time_of_no_figure(bench, monkeypatch):
    work = importlib.import_module("work")
    collected = []
    monkeypatch.setattr(work.gc, "collect", lambda: collected.append(len(work._running)))
    figures: dict[str, float] = {}
    for _ in range(2):
        with work.clock(figures, "longer"), work.clock(figures, "shorter"):
            pass
    assert collected == [0, 0]
    assert sorted(figures) == ["longer", "longer cpu", "shorter", "shorter cpu"]
    with pytest.raises(ZeroDivisionError), work.clock(figures, "broken"):
        raise ZeroDivisionError
    assert "broken" not in figures
    assert not work._running
