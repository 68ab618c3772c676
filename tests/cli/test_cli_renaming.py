"""`perdure rename` as one types it: a store or a file, dry runs, what is refused, wrong use."""

from __future__ import annotations

import json
import pickle
import sys

import pytest

import perdure
from perdure.cli import main


@pytest.fixture
def say(folder, capsys):
    """Gives a command, and what it said: status, stdout, stderr."""

    def said(*words: str) -> tuple[int, str, str]:
        try:
            status = main(words)
        except SystemExit as left:
            status = left.code
        out, err = capsys.readouterr()
        return status, out, err

    return said


@pytest.fixture
def baskets(folder):
    """A store with three baskets; their ids."""
    sys.path.insert(0, str(folder))
    import small

    with perdure.make_store("sqlite:///small.db") as store:
        return store.save_many([small.Basket(1), small.Basket("small:Basket"), small.Basket([small.no_flow])])


def test_a_store(say, baskets):
    status, out, err = say("rename", "small:Basket", "large:Cart", "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split() == ["OLD", "NEW", "RECORDS"]
    assert out.splitlines()[1].split() == ["small:Basket", "large:Cart", "3"]
    assert out.splitlines()[2].startswith("3 of ")
    assert out.splitlines()[2].endswith("would be changed.")
    status, out, _ = say("rename", "sqlite:///small.db", "small:Basket", "large:Cart")
    assert (status, "changed. Take it back:  perdure undo" in out) == (0, True)
    assert say("ls", "--class", "large:Cart")[1].count("large:Cart") == 3
    assert say("rename", "small:Basket", "large:Cart") == (0, "", "Nothing in this store has such a name.\n")
    undo = out.rstrip().partition("Take it back:  perdure ")[2].split()
    assert say(*undo)[0] == 0
    assert say("ls", "--class", "small:Basket")[1].count("small:Basket") == 3


def test_what_is_refused_is_listed(say, baskets):
    import small

    with perdure.make_store("sqlite:///small.db") as store:
        for _ in range(25):
            store.save(small.Basket([pickle.dumps(small.Basket), small.half]))
    status, out, err = say("rename", "--module", "small", "large")
    assert status == 3
    assert "3 of" in out
    assert err.count("is left as it is") == 20
    assert "holds another pickle, which names what is to be renamed." in err
    assert "… and 5 more" in err
    status, out, err = say("rename", "--module", "small", "large", "--json")
    told = json.loads(out)
    assert (status, told["records"], len(told["refused"]), told["revisions"]) == (3, 0, 25, [])
    assert told["refused"][0]["class_name"] == "small:Basket"


def test_a_copy_and_back(say, baskets, folder):
    assert say("rename", "small:Basket", "large:Cart", "--copy", "before")[0] == 0
    assert (folder / "before").stat().st_size > 100
    status, out, _ = say("rename", "small:Basket", "large:Cart", "--put-back", "before", "--json")
    assert (status, json.loads(out)["records"]) == (0, 3)
    status, _, err = say("rename", "small:Basket", "large:Cart", "--copy", "before")
    assert (status, "not overwritten" in err) == (3, True)
    assert say("ls", "--class", "small:Basket")[1].count("small:Basket") == 3


def test_a_file(say, folder):
    (folder / "x.pkl").write_bytes(b"csmall\nBasket\n.csmall\nhalf\n.")
    (folder / "n.toml").write_text('[rename]\n"small:half" = "large:part"\n')
    status, out, err = say("rename", "x.pkl", "small:Basket", "large:Cart", "--names", "n.toml", "--json")
    told = json.loads(out)
    assert (status, err, told["pickles"], told["backup"]) == (0, "", 2, str(folder / "x.pkl.bak"))
    assert told["names"][0] == {"old": "small:Basket", "new": "large:Cart", "count": 1}
    assert (folder / "x.pkl").read_bytes() == b"clarge\nCart\n.clarge\npart\n."
    assert say("rename", "x.pkl", "small:Basket", "large:Cart")[2] == "Nothing in x.pkl has such a name.\n"
    (folder / "x.pkl").write_bytes(b"\x82\x01.")
    status, _, err = say("rename", "x.pkl", "a:A", "b:B")
    assert (status, "EXT1 at position 0" in err) == (3, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "An old name and a new one are needed"),
        (["sqlite:///small.db"], "An old name and a new one are needed"),
        (["a:A", "b:B", "c:C", "d:D"], "An old name and a new one are needed"),
        (["a", "b"], "'a' is no name of a class"),
        (["--module", "a:A", "b"], "'a:A' is no name of a module"),
        (["a:A", "a:A"], "which it is"),
        (["--names", "nothing.toml"], "There is no file nothing.toml"),
        (["a:A", "perdure:Job"], "perdure's own"),
        (["small.py", "a:A", "b:B", "--copy", "x"], "--copy and --put-back are for stores"),
    ],
)
def test_wrong_use(say, baskets, words, told):
    status, out, err = say("rename", *words)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_a_store_that_is_not_there_is_not_made(say, folder):
    assert say("rename", "sqlite:///nothing.db", "a:A", "b:B")[0] == 3
    assert say("rename", "nothing.pkl", "a:A", "b:B")[0] == 3
    assert sorted(path.name for path in folder.iterdir()) == ["small.py"]
