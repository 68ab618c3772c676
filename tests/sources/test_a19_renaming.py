"""Rows A13, A14 and A19 of the article: a class or module was renamed, and what was saved before has the new names.

The article has one search and replace in the file, after a backup; `perdure rename` changes names only.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

import perdure
from perdure.cli import main

PYTHON2 = Path(__file__).resolve().parent.parent / "data" / "python2"
ARTICLE = """\
class person:
    def __init__(self, firstname, lastname):
        self.firstname, self.lastname = firstname, lastname
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the program is; modules in it can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("protocol", range(6))
def test_a19_names_in_a_pickle_are_changed_after_a_backup(folder, capsys, protocol):
    (folder / "persons.py").write_text(ARTICLE)
    import persons

    saved = [persons.person("Ada", "persons"), {"persons.person": "text that looks alike"}]
    (folder / "data.pkl").write_bytes(before := pickle.dumps(saved, protocol))
    del sys.modules["persons"]
    (folder / "persons.py").unlink()
    (folder / "staff").mkdir()
    (folder / "staff" / "__init__.py").touch()
    (folder / "staff" / "people.py").write_text(ARTICLE.replace("person:", "Person:"))
    assert main(["rename", "data.pkl", "persons:person", "staff.people:Person", "--dry-run"]) == 0
    assert (folder / "data.pkl").read_bytes() == before
    assert main(["rename", "data.pkl", "persons:person", "staff.people:Person"]) == 0
    assert "1 name in 1 pickle changed" in capsys.readouterr().out
    assert not {"staff", "staff.people", "persons"} & sys.modules.keys()  # nothing was imported
    assert (folder / "data.pkl.bak").read_bytes() == before
    person, text = pickle.loads((folder / "data.pkl").read_bytes())
    assert (type(person).__module__, type(person).__name__) == ("staff.people", "Person")
    assert (person.firstname, person.lastname, text) == ("Ada", "persons", saved[1])


@pytest.mark.parametrize("path", sorted(PYTHON2.glob("*.pickle")), ids=lambda path: path.stem)
def test_a19_pickles_that_python_2_wrote(folder, path):
    """The classes of `shop` are in `goods.stock` now; everything else in the real files stays."""
    (folder / "goods").mkdir()
    (folder / "goods" / "__init__.py").touch()
    (folder / "goods" / "stock.py").write_text((PYTHON2 / "shop.py").read_text())
    copy = folder / "copy.pickle"
    copy.write_bytes(before := path.read_bytes())
    assert main(["rename", "--module", "copy.pickle", "shop", "goods.stock"]) == 0
    after = copy.read_bytes()
    names = b"shop\nCustomer", b"shop\nItem", b"shop\nPair", b"shop\nPoint"
    assert (after != before) == any(name in before for name in names)
    for name in names:
        before = before.replace(b"c" + name, b"cgoods.stock" + name[4:]).replace(
            b"(i" + name, b"(igoods.stock" + name[4:]
        )
    assert after == before
    loaded = pickle.loads(after, encoding="latin-1")
    first = loaded[0] if isinstance(loaded, list) else loaded
    if any(b"goods.stock" + name[4:] in after for name in names):
        assert type(first).__module__ == "goods.stock"


@pytest.mark.parametrize("url", ["sqlite:///shop.db", "store"])
def test_a13_a14_a_class_and_a_module_are_renamed_in_a_store(folder, capsys, url):
    source = "import perdure\n\nclass Person(perdure.Persistable):\n    def __init__(self, name, friend=None):\n"
    source += "        self.name, self.friend = name, friend\n"
    (folder / "persons.py").write_text(source)
    import persons

    with perdure.make_store(url) as store:
        store.roots["all"] = [persons.Person("Ada", friend := persons.Person("persons:Person"))]
        id_ = friend.persistent_id
    del sys.modules["persons"]
    (folder / "persons.py").unlink()
    (folder / "people.py").write_text(source.replace("Person(", "Human("))
    with perdure.make_store(url) as store, pytest.raises(perdure.ClassNotFound):
        store.load(id_)
    (folder / "names.toml").write_text(
        '[rename]\n"persons:Person" = "persons:Human"\n[move_module]\npersons = "people"\n'
    )
    assert main(["rename", url, "--names", "names.toml"]) == 0
    assert "2 of" in capsys.readouterr().out
    with perdure.make_store(url) as store:
        (ada,) = store.roots["all"]
        assert (ada.name, ada.friend.name, type(ada.friend).__qualname__) == ("Ada", "persons:Person", "Human")
        assert store.history(id_)[1].class_name == "persons:Person"
        assert store.check() == []
