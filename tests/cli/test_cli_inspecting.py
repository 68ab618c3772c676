"""`perdure inspect`: a record of a store, or any file, is shown; nothing of it is executed."""

from __future__ import annotations

import os
import pickle

import perdure
from perdure.cli import main


class Thing(perdure.Persistable):
    def __init__(self, name):
        self.name = name


class Harmful:
    def __reduce__(self):
        return os.putenv, ("PERDURE_TEST_CLI_INSPECTED", "1")


def test_a_record_of_a_store(tmp_path, capsys):
    url = str(tmp_path / "things")
    with perdure.make_store(url) as store:
        id_ = store.save(Thing("pen"))
    assert main(["inspect", id_, "--store", url]) == 0
    text = capsys.readouterr().out
    assert "seal: good" in text
    assert "  .name: 'pen'" in text
    assert main(["inspect", "Thing.99", "--store", url]) == 2
    assert "Thing.99" in capsys.readouterr().err


def test_a_file_that_is_not_perdures(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weights": list(range(500)), "call": Harmful()}, 2))
    assert main(["inspect", str(path), "--lines", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (11, "… (all of it: --lines 0)")
    assert main(["inspect", str(path), "--lines", "0"]) == 0
    assert "posix:putenv (not known here: refused without a good seal)" in capsys.readouterr().out
    assert "PERDURE_TEST_CLI_INSPECTED" not in os.environ
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["inspect", str(path)]) == 3
    assert "cannot be followed further" in capsys.readouterr().out
    assert main(["inspect", "no id and no file"]) == 2


def test_what_is_neither_a_file_nor_an_id(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "nothing.pkl"]) == 2
    assert "There is no file 'nothing.pkl', and it is no id." in capsys.readouterr().err
