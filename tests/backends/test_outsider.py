"""Whoever writes a backend outside of perdure has one suite to hold it to, which finds what is wrong in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from outsider import PickleBackend

import perdure
from perdure import KeyMissing, make_store
from perdure.backends.base import Backend, NewKey, no_key
from perdure.testing.backend_contract import BackendContract
from perdure.testing.shared_backend_contract import SharedBackendContract

PLACE = Path(__file__).parent

WRONG = {
    "buffer": "def buffer(self, digest): return b'wrong'",
    "buffers": "def buffers(self): return {}",
    "drop_buffers": "def drop_buffers(self, digests, seen): return True",
    "find": "def find(self, query): return super().find(query)._replace(ids=[])",
    "count": "def count(self, query): return self.revision(), 42",
    "lacking": "def lacking(self, query): return []",
    "pack": "def pack(self, oldest): return 0",
    "erase": "def erase(self, ids): pass",
    "undo": "def history(self, id_): return super().history(id_)[:1]",
    "class_names": "def class_names(self): return []",
    "ids_of": "def ids_of(self, numbers, at): return []",
    "commits_of": "def commits_of(self, revisions): return {}",
    "changes": "def changes(self, since): return self.revision(), set()",
    "watch": "def watch(self): return lambda: 0",
    "read_run": "def read_run(self, first, end, at): return self.read(self.ids())",
    "give_back": "def give_back(self, first, end): return True",
    "indexes": "def indexes(self): return {'flow:Job': ['size']}",
    "size": "def size(self): return 7",
    "referrers": "def referrers(self, ids): return {}",
}

# What takes long is left out; each of the wrong ones is found by others.
ASKED = "not (histories or threads or comes_back_as or many_records or every_value or outlasts)"


class TestPickleBackend(SharedBackendContract):
    machine_examples = 3

    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return PickleBackend(place / "store", new_key=new_key)

    def reopen(self, place: Path, read_only: bool = False) -> Backend:
        return PickleBackend(place / "store", create=False, read_only=read_only)


def test_the_contract_finds_what_is_wrong(tmp_path: Path) -> None:
    module = tmp_path / "test_wrong.py"
    lines = [
        "from perdure.backends.base import no_key",
        "from perdure.backends.memory import MemoryBackend",
        "from perdure.testing.backend_contract import BackendContract",
    ]
    for name, wrong in WRONG.items():
        lines += [
            f"class {name}(MemoryBackend):",
            f"    {wrong}",
            f"class Test_{name}(BackendContract):",
            "    machine_examples = 1",
            f"    def make_backend(self, place, new_key=no_key): return {name}(new_key=new_key)",
        ]
    module.write_text("\n".join(lines))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", ASKED, module.name]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    passed = [name for name in WRONG if f"FAILED test_wrong.py::Test_{name}::" not in result.stdout]
    assert passed == [], result.stdout


def test_the_contract_asks_every_call_of_a_backend() -> None:
    calls = {name for name, value in vars(Backend).items() if callable(value) and not name.startswith("_")}
    parts = [cls for cls in BackendContract.__mro__ if cls.__module__.startswith("perdure.testing")]
    names = {name for cls in parts for method in vars(cls).values() for name in code_names(method)}
    assert calls - names == {"scan_at", "replay_part"}  # which are for backends to build on


def code_names(method: object) -> tuple[str, ...]:
    code = getattr(method, "__code__", None)
    return code.co_names if code else ()


def test_a_store_on_a_backend_of_ones_own(tmp_path: Path) -> None:
    def opened(url: str, **options: object) -> perdure.Store:
        path = tmp_path / "store"
        return perdure.store_on(lambda new_key: PickleBackend(path, new_key=new_key), url=url, **options)

    perdure.register("pickled", opened)
    with make_store("pickled:here") as store:
        id_ = store.save([1, 2, 3])
        assert store.url == "pickled:here"
        key = store.key
    with make_store("pickled:here", trust=None, key=key, resources={"a": 1}) as store:
        assert store.load(id_) == [1, 2, 3]
        assert store.check() == []
    with pytest.raises(KeyMissing):
        make_store("pickled:here", key=perdure.Key.new())
    with pytest.warns(UserWarning, match="did you mean 'trust'"):
        make_store("pickled:here", trusts="all").close()
