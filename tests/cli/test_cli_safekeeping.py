"""The verbs that keep a store safe, as they are typed."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from perdure import KeyMissing, make_store
from perdure.cli import main


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    with make_store("sqlite:///shop.db") as store:
        store.roots["prices"] = {"pen": 3}
    return "sqlite:///shop.db"


def test_backup_restore_and_copy(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", shop, "shop.backup"]) == 0
    assert "up to revision 1" in capsys.readouterr().out
    assert main(["backup", shop, "shop.backup"]) == 0
    assert "up to date: revision 1" in capsys.readouterr().out
    with make_store(shop) as store:
        store.roots["prices"] = {"pen": 4}
    assert main(["backup", shop, "shop.backup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["since"] == 1
    assert main(["restore", "shop.backup", "--dry-run"]) == 0
    assert "sealed with the key" in capsys.readouterr().out
    assert main(["restore", "shop.backup", "again"]) == 0
    assert "every seal is good" in capsys.readouterr().out
    assert main(["copy", "again", "sqlite:///copy.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revision"] == 2
    for url in ("again", "sqlite:///copy.db"):
        with make_store(url, read_only=True) as store:
            assert store.roots["prices"] == {"pen": 4}


def test_a_key_that_others_may_know_is_replaced(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    with make_store(shop) as store:
        store.roots["prices"] = {"pen": 4}
        old = store.key
    assert main(["key", "rotate", "sqlite:///anew.db", "--store", shop, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["revision"], told["key"] != old.name) == (2, True)
    with make_store("sqlite:///anew.db") as store:
        assert store.key.name == told["key"]
        assert store.roots["prices"] == {"pen": 4}
        assert store.at(1).roots["prices"] == {"pen": 3}  # the past is sealed anew, too
        assert store.check() == []
    with pytest.raises(KeyMissing):
        make_store("sqlite:///anew.db", key=old, read_only=True)
    main(["key", "show", "--store", "sqlite:///anew.db"])
    assert f"{told['key']}  (the key of the store)" in capsys.readouterr().out
    assert main(["key", "rotate", "third/", "--store", "sqlite:///anew.db"]) == 0
    shown = capsys.readouterr()
    assert "every record sealed anew with the key" in shown.out
    assert "perdure key export FILE --name" in shown.err
    assert main(["key", "rotate", "sqlite:///anew.db", "--store", shop]) == 0  # goes on where it was
    assert main(["key", "rotate", "--store", shop]) == 2
    assert "needs the URL of a new place" in capsys.readouterr().err


def test_a_backup_that_was_cut_off_is_told(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", shop, "shop.backup"]) == 0
    with open("shop.backup", "ab") as file:
        file.write(b"half an increment")
    capsys.readouterr()
    assert main(["restore", "shop.backup", "--dry-run", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["torn"] == 17
    assert main(["restore", "shop.backup", "again"]) == 3
    assert "--whole-only" in capsys.readouterr().err
    assert not os.path.exists("again")
    assert main(["restore", "shop.backup", "again", "--whole-only"]) == 0
    assert "17 bytes" in capsys.readouterr().err
    assert main(["backup", shop, "shop.backup"]) == 0
    assert "17 bytes" in capsys.readouterr().err


def test_wrong_use_is_one_sentence(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "nothing.backup", "again"]) == 2
    assert main(["restore", "shop.db", "again"]) == 3
    assert main(["restore", "shop.db"]) == 2
    assert main(["backup", "sqlite:///nothing.db", "b"]) == 3
    assert main(["copy", shop, shop]) == 2
    said = capsys.readouterr().err
    assert said.count("perdure: ") == 5
    assert "Traceback" not in said
    assert not os.path.exists("again")


def test_check_and_repair(shop: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with make_store(shop) as store:
        store.save({"more": 1})
        (id_,) = store.list()
    assert main(["check", shop]) == 0
    assert "0 problems" in capsys.readouterr().err
    assert main(["backup", shop, "shop.backup"]) == 0
    with sqlite3.connect("shop.db") as connection:
        connection.execute("UPDATE records SET frame = substr(frame, 1, 60) WHERE number = ?", (id_.number,))
    connection.close()
    capsys.readouterr()
    assert main(["check", shop]) == 3
    assert id_ in capsys.readouterr().out
    assert main(["check", shop, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["problems"][0]["id"] == id_
    assert main(["repair", shop]) == 3
    assert "still wrong" in capsys.readouterr().out
    assert main(["repair", shop, "--from", "shop.backup", "--dry-run"]) == 0
    assert "would do" in capsys.readouterr().out
    assert main(["repair", shop, "--from", "shop.backup", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["left"], [each["id"] for each in told["done"]]) == ([], [id_])
    assert os.listdir(told["folder"]) == [f"{id_}.2"]
    assert main(["check", shop]) == 0
