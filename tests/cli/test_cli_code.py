"""`perdure code` shows which code made something, and has it forgotten; `[tool.perdure]` limits what is kept."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

import perdure


@pytest.fixture
def repository(folder):
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run(
            ["git", "-c", "user.name=Ada Example", "-c", "user.email=ada@example.org", *arguments], check=True
        )
    return folder


def test_the_code_of_a_run_a_job_and_an_object(repository, say):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert say("run", "small.py", "baskets", "2.5")[0] == 0
    shown = [say("code", id_) for id_ in ("last", *[i for i in ids() if i.startswith(("Run", "Job", "Basket"))])]
    assert len(shown) == 5
    for status, out, _ in shown:
        assert status == 0
        assert f"commit {commit}, tree " in out
        assert "small.py" in out
    assert "changed files" not in shown[0][1]
    assert say("code", "last", "--text", "small")[1] == (repository / "small.py").read_text()
    plain = json.loads(say("code", "last", "--json")[1])
    assert plain[0]["modules"][0]["name"] == "small"


def ids():
    with perdure.make_store(os.environ["PERDURE_STORE"]) as store:
        return store.list(all=True)


def test_changed_files_are_named(repository, say):
    (repository / "small.py").write_text((repository / "small.py").read_text() + "# more\n")
    assert say("run", "small.py", "total", "2")[0] == 0
    assert "changed files: small.py" in say("code", "last")[1]


def test_texts_are_forgotten(repository, say):
    text = (repository / "small.py").read_text()
    say("run", "small.py", "total", "2")
    assert "1 text would be erased: Source." in say("code", "last", "--forget", "--dry-run")[1]
    assert say("code", "last", "--text", "small")[1] == text
    assert "1 text erased: Source." in say("code", "last", "--forget")[1]
    assert "erased" in say("code", "last")[1]
    with perdure.make_store(os.environ["PERDURE_STORE"], create=False) as store:
        assert not [id_ for id_ in store.list(all=True) if id_.startswith("Source")]
        assert store.check() == []
    content = b"".join(path.read_bytes() for path in repository.glob("small.db*"))
    assert b"is no good" not in content
    assert say("code", "last", "--text", "small")[1] == text  # from the commit, which is here
    assert "0 texts erased" in say("code", "last", "--forget")[1]
    (repository / ".git").rename(repository / "elsewhere")
    status, out, err = say("code", "last", "--text", "small")
    assert (status, out) == (2, "")
    assert re.search(r"The text of 'small' in Code\.\d+ is erased\. Start in the repository", err)
    assert "The text of 'large' is not in Code." in say("code", "last", "--text", "large")[2]


@pytest.mark.parametrize(("limit", "codes", "sources"), [("recorded", 1, 1), ("commits", 1, 0), ("off", 0, 0)])
def test_what_is_kept_is_limited_by_the_project(folder, say, limit, codes, sources):
    (folder / "pyproject.toml").write_text(f'[tool.perdure]\ncode = "{limit}"\n')
    assert say("run", "small.py", "baskets", "2")[0] == 0
    found = ids()
    assert len([id_ for id_ in found if id_.startswith("Source")]) == sources
    assert len([id_ for id_ in found if id_.startswith("Code")]) >= codes
    if limit == "off":
        status, _, err = say("code", "last")
        assert (status, "No code record" in err) == (2, True)
    else:
        assert ("not kept" in say("code", "last")[1]) == (limit == "commits")


@pytest.mark.parametrize(
    "text", ['[tool.perdure]\ncode = "archived"\n', "[tool.perdure\n", "tool = 1\n", "[tool]\nperdure = 2\n"]
)
def test_wrong_settings_are_one_sentence(folder, say, text):
    (folder / "pyproject.toml").write_text(text)
    status, _, err = say("runs")
    assert (status, err.count("\n")) == (2, 1)
    assert "pyproject.toml" in err


def test_wrong_ids(folder, say):
    say("run", "small.py", "total", "2")
    assert say("code", "Nothing.1")[0] == 2
    assert say("code", "last", "--dry-run")[0] == 2
    assert say("code", "last", "--text", "nothing")[0] == 2


def test_nothing_private_is_in_the_bytes_of_the_store(repository, command, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "correct-horse-battery")
    subprocess.run(["git", "remote", "add", "origin", "https://ada:hunter2@git.example.org/shop.git"], check=True)
    (repository / "uv.lock").write_text(
        '[[package]]\nname = "numpy"\nversion = "2.1"\nsource = { registry = "https://eve:sesame@pypi.example.org" }\n'
    )
    (repository / "small.py").write_text((repository / "small.py").read_text() + "# more\n")
    for words in (
        ["run", "small.py", "total", "2", "3"],
        ["run", "small.py", "baskets", "2"],
        ["rerun", "last", "--all"],
    ):
        command(*words)
    with perdure.make_store("file:///" + str(repository / "copy")) as store:
        store.save([perdure.make_store])
    stored = b"".join(
        path.read_bytes() for path in [*Path("copy").rglob("*"), *Path(".").glob("small.db*")] if path.is_file()
    )
    with sqlite3.connect("small.db") as database:
        for line in database.iterdump():
            stored += line.encode()
    assert b"small.py" in stored
    secrets = ["correct-horse", "SECRET_TOKEN", "hunter2", "git.example.org", "sesame", "pypi.example", "Ada Example"]
    secrets += ["ada@example", str(repository), str(Path.home()) + "/", str(Path(perdure.__file__).parent)]
    assert [secret for secret in secrets if secret.encode() in stored] == []
