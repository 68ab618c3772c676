"""What `log`, `undo`, `pack`, `collect` and `forget` do, and what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import perdure


class Crate(perdure.Persistable):
    def __init__(self, weight, *inside):
        self.weight, self.inside = weight, list(inside)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with Crate.1 at weights 1, 2, 3, and once with Crate.2 inside."""
    url = f"sqlite:///{tmp_path}/crates.db"
    with perdure.make_store(url, code="off") as store:
        crate = Crate(1)
        with store.transaction(note="first"):
            store.save(crate)
        with store.transaction(note="second"):
            crate.weight, crate.inside = 2, [Crate(20)]
        with store.transaction(note="third"):
            crate.weight, crate.inside = 3, []
    return url


def weight(url: str) -> int:
    with perdure.make_store(url) as store:
        found: int = store.load("Crate.1").weight
        return found


def test_log_tells_commits(say, url):
    status, out, _ = say("log", "--store", url)
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["REVISION", "TIME", "OBJECTS", "NOTE"]
    assert [(line[0], line[-2], line[-1]) for line in lines[1:]] == [
        ("3", "1", "third"), ("2", "2", "second"), ("1", "1", "first"),
    ]  # fmt: skip
    told = json.loads(say("log", "--store", url, "--json", "--limit", "1", "--before", "3")[1])
    assert [(each["revision"], each["note"], each["objects"], each["code"]) for each in told] == [
        (2, "second", 2, None)
    ]
    assert "--before 3" in say("log", "--store", url, "--limit", "1")[1]


def test_undo(say, url):
    status, out, _ = say("undo", "3", "--store", url, "--note", "too heavy")
    assert (status, out) == (0, "Revision 3 is undone by revision 4.\n")
    assert weight(url) == 2
    assert "too heavy" in say("log", "--store", url)[1]
    status, _, err = say("undo", "3", "--store", url)
    assert status == 3
    assert "Crate.1" in err
    assert say("undo", "99", "--store", url)[0] == 2


def test_pack(say, url):
    status, out, _ = say("pack", "--keep", "2", "--dry-run", "--store", url)
    assert (status, out) == (0, "Nothing that was replaced or removed up to revision 2 would be kept.\n")
    assert len(json.loads(say("history", "Crate.1", "--json", "--store", url)[1])["versions"]) == 3
    status, out, _ = say("pack", "--keep", "2", "--store", url)
    assert status == 0
    assert out.startswith("Forgot 1 version and 0 large pieces")
    assert out.endswith("from revision 2 on.\n")
    assert len(json.loads(say("history", "Crate.1", "--json", "--store", url)[1])["versions"]) == 2
    assert json.loads(say("pack", "--keep", "0s", "--json", "--store", url)[1])["oldest"] == 3
    assert say("pack", "--keep", "30d", "--store", url)[0] == 0
    assert say("pack", "--keep", "2026-01-31", "--store", url)[0] == 0


@pytest.mark.parametrize("wrong", ["soon", "3y", "-1", "2026-13-01", "9" * 30 + "d"])
def test_what_pack_does_not_understand(say, url, wrong):
    status, _, err = say("pack", f"--keep={wrong}", "--store", url)
    assert status == 2
    assert "neither a time" in err


def test_collect(say, url):
    status, out, _ = say("collect", "--dry-run", "--store", url)
    assert (status, out) == (0, "1 object of 2 would be removed: Crate.2.\n")
    assert json.loads(say("collect", "--store", url, "--json")[1]) == {
        "removed": 1, "found": 1, "objects": 2, "ids": ["Crate.2"],
    }  # fmt: skip
    assert say("collect", "--store", url)[1] == "0 objects of 2 removed.\n"  # the collection has a code record


def test_forget(say, url):
    status, out, _ = say("forget", "Crate.2", "--dry-run", "--store", url)
    assert (status, out) == (0, "1 version of Crate.2 would be forgotten.\n")
    assert say("forget", "Crate.2", "--store", url)[0] == 0
    assert "(removed)" in say("history", "Crate.2", "--store", url)[1]
    assert say("forget", "Crate.9", "--store", url)[0] == 2
    assert say("forget", "Crate.9", "--dry-run", "--store", url)[0] == 2
