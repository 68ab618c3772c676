"""What `runs`, `show`, `history`, `ls` and `key` tell; also without classes or key, and of damaged stores."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

import perdure
from perdure.cli import looking, terminal


class Parcel(perdure.Persistable):
    def __init__(self, weight):
        self.weight = weight

    def __record_fields__(self):
        return {"weight": self.weight, "label": "a\x1b[31mb\n" * 20}


@pytest.fixture
def ran(say):
    """A store with a run that failed, and one that succeeded."""
    assert say("run", "small.py", "total", "1", "3", "--executor", "inline")[0] == 1
    assert say("run", "small.py", "total", "1", "2", "--executor", "inline")[0] == 0
    return say


def test_runs_are_listed_newest_first(ran):
    lines = ran("runs")[1].splitlines()
    assert lines[0].split() == ["RUN", "STATE", "FLOW", "ARGUMENTS", "JOBS", "DONE", "FAILED", "STARTED", "TOOK"]
    assert [line.split()[1] for line in lines[1:]] == ["succeeded", "failed"]
    assert "[1, 3]" in lines[2]
    assert ran("runs", "--limit", "1")[1].splitlines()[-1] == "… and 1 older: --all shows them."
    told = json.loads(ran("runs", "--json")[1])
    assert [run["states"] for run in told] == [{"succeeded": 3}, {"succeeded": 1, "failed": 1, "skipped": 1}]


def test_show_tells_why(ran):
    status, out, err = ran("show", "Run.1")
    assert (status, err) == (0, "")
    assert "3 jobs: 1 succeeded, 1 failed, 1 skipped" in out
    assert "half(3)  " in out
    assert "ValueError: is no good: 3 …" in out
    assert "no repository: small.py" in out
    assert "Traceback" not in out
    assert 'raise ValueError(f"is no good' in ran("show", "Run.1", "--traceback")[1]
    run = json.loads(ran("show", "Run.1", "--json")[1])
    attempt = next(job for job in run["jobs"] if job["state"] == "failed")["attempts"][0]
    assert (attempt["error_type"], attempt["number"]) == ("ValueError", 1)


def test_a_large_run_is_shown_in_short(ran, monkeypatch):
    monkeypatch.setattr(looking, "ALL_SHOWN", 1)
    out = ran("show", "Run.1")[1]
    assert "1 × half succeeded" in out
    assert "half(1)" not in out
    assert "half(1)" in ran("show", "Run.1", "--jobs")[1]


def test_history_of_a_job_tells_its_attempts(ran):
    job = json.loads(ran("show", "Run.1", "--json")[1])["jobs"][1]["id"]
    assert ran("rerun", "Run.1", "--executor", "inline")[0] == 1
    told = json.loads(ran("history", job, "--json")[1])
    assert [attempt["state"] for attempt in told["attempts"]] == ["failed", "failed"]
    assert "2 attempts, of Run.1" in ran("history", job)[1]
    lines = ran("history", "Run.1")[1].splitlines()
    assert [line.split()[1] for line in lines[2 : lines.index("")]] == ["running", "failed", "running", "failed"]
    assert any("1 job ran more than once" in line for line in lines)


def test_history_of_an_object(say):
    with perdure.make_store("sqlite:///small.db") as store:
        parcel = Parcel(1)
        with store.transaction(note="first weighing"):
            id_ = store.save(parcel)
        parcel.weight = 2
        store.save(parcel)
        store.remove(id_)
    lines = say("history", id_)[1].splitlines()
    assert len(lines) == 4
    assert "(removed)" in lines[1]
    assert "weight=2" in lines[2]
    assert "first weighing" in lines[3]
    told = json.loads(say("history", id_, "--json")[1])["versions"]
    assert [version["removed"] for version in told] == [True, False, False]


def test_ls_lists_the_users_objects(ran):
    assert ran("ls")[:2] == (0, "")
    with perdure.make_store("sqlite:///small.db") as store:
        id_ = store.save(Parcel(3))
    lines = ran("ls")[1].splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{id_}  test_cli_looking:Parcel")
    assert "\x1b" not in lines[1]
    assert [row["fields"]["weight"] for row in json.loads(ran("ls", "--json")[1])] == [3]
    assert len(ran("ls", "--all")[1].splitlines()) > 10
    assert len(ran("ls", "--class", "Run")[1].splitlines()) == 3
    assert ran("ls", "--class", "test_cli_looking:Parcel")[1].splitlines() == lines
    assert ran("ls", "--class", "Nothing")[2] == "There is no object of class Nothing in this store.\n"


def test_reading_needs_no_classes_and_changes_nothing(ran, command, folder):
    assert ran("run", "small.py", "baskets", "2", "--executor", "inline")[0] == 0
    (folder / "small.py").unlink()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    before = (folder / "small.db").read_bytes()
    names = sorted(path.name for path in folder.iterdir())
    assert "succeeded" in command("show", "last").stdout
    assert "small:Basket" in command("ls").stdout
    for words in ("runs", "history last", "ls --all", "key show"):
        done = command(*words.split())
        assert done.returncode == 0
        assert "small" in done.stdout or words == "key show"
    assert (folder / "small.db").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_store_without_its_key(ran, own_environment, folder):
    assert ran("key", "export", "kept.key")[0] == 0
    keys = own_environment / "config_home" / "perdure" / "keys"
    shutil.move(keys, folder / "elsewhere")
    status, out, err = ran("runs")
    assert status == 0
    assert len(out.splitlines()) == 3
    assert "is not on this machine, so what is shown is not verified" in err
    for words in ("run small.py total 1", "rerun last", "resume last", "key export it.key"):
        status, out, err = ran(*words.split())
        assert (status, out) == (3, "")
        assert "is not on this machine. Copy its file from where the store was made" in err
    assert ran("key", "import", "kept.key")[0] == 0
    assert ran("rerun", "last", "--all", "--executor", "inline")[0] == 0


def test_the_key_file_of_the_environment(ran, own_environment, monkeypatch, folder):
    assert ran("key", "export", "kept.key")[0] == 0
    shutil.rmtree(own_environment / "config_home" / "perdure")
    monkeypatch.setenv("PERDURE_KEY_FILE", "kept.key")
    assert ran("rerun", "last", "--all", "--executor", "inline")[0] == 0
    monkeypatch.setenv("PERDURE_KEY_FILE", "small.py")
    assert ran("runs")[0] == 3
    monkeypatch.setenv("PERDURE_KEY_FILE", "none.key")
    assert "There is no key file none.key." in ran("runs")[2]


def test_keys_are_shown_by_name_only(ran, own_environment):
    status, out, err = ran("key", "show")
    assert (status, len(out.splitlines())) == (0, 1)
    assert out.endswith("(the key of the store)\n")
    assert ran("key", "export", "kept.key", "--name", out[:8])[0] == 0
    secret = (own_environment / "config_home" / "perdure" / "keys" / f"{out[:8]}.key").read_text().split()[4]
    assert secret not in out + err
    told = json.loads(ran("key", "show", "--json")[1])
    assert (told["keys"], told["store"]) == ([out[:8]], out[:8])
    assert ran("key", "export", "more.key", "--name", "00000000")[0] == 2
    assert ran("key", "export", "small.py")[0] == 3


def test_damaged_records_are_named_and_the_others_shown(ran, folder):
    database = sqlite3.connect(folder / "small.db")
    with database:
        database.execute(
            "UPDATE records SET frame = CAST(substr(frame, 1, length(frame) - 40) || zeroblob(40) AS BLOB)"
            " WHERE number = 1"
        )
    database.close()
    status, out, err = ran("runs")
    assert status == 3
    assert len(out.splitlines()) == 2
    assert "Run.1" in err
    assert "Traceback" not in err


def test_colours_only_for_those_who_see_them(ran, monkeypatch):
    assert "\x1b" not in ran("show", "Run.1")[1]
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mfailed\x1b[0m" in ran("show", "Run.1")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    out = ran("show", "Run.1")[1]
    assert "\x1b" not in out
    assert max(terminal.columns(line) for line in out.splitlines()) <= 80
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in ran("show", "Run.1")[1]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_tables_fit(monkeypatch, width):
    monkeypatch.setattr(terminal, "width_of", lambda stream=None: width)
    rows = [["Run.1", "x" * 300, "漢字" * 40], ["Run.12345", "é" * 20, ""]]
    lines = terminal.table(["RUN", "FLOW", "TEXT"], rows, give=("TEXT", "FLOW"))
    assert max(terminal.columns(line) for line in lines) <= width
    assert lines[1].startswith("Run.1      xxx")
    starts = {line.index(sign) for line, sign in zip(lines, ("FLOW", "xxx", "ééé"), strict=True)}
    assert starts == {11}


def test_texts_of_records_do_not_reach_the_terminal():
    assert terminal.clean("a\x1b[31mb\nc\x07\u202e") == "a�[31mb c��"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, ""), (0.004, "0.00 s"), (12.34, "12.3 s"), (150, "2 min 30 s"), (7300, "2 h 01 min")]
)
def test_spans(seconds, shown):
    assert terminal.span(seconds) == shown
