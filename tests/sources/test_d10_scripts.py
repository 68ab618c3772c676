"""Row D10 of gc3libs: classes must be importable, and scripts are told to import themselves. Here they need not."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import perdure
from perdure import Persistable

class Task(Persistable):
    def __init__(self, name):
        self.name = name

if __name__ == "__main__":
    with perdure.make_store(sys.argv[1]) as store:
        store.roots["task"] = Task("first")
        assert isinstance(store.roots["task"], Task)
"""
AGAIN = """
if __name__ == "__main__":
    with perdure.make_store(sys.argv[1]) as store:
        assert isinstance(store.roots["task"], Task)
        print(store.roots["task"].name)
"""
LOAD = """
import sys
import perdure

with perdure.make_store(sys.argv[1], code="archived") as store:
    print(store.roots["task"].name, type(store.roots["task"]).__module__)
"""


def python(where, *words):
    done = subprocess.run([sys.executable, *words], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_d10_a_class_of_a_script_loads_in_another_program_without_the_script(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    url = f"sqlite:///{tmp_path}/tasks.db"
    (there / "session_based.py").write_text(SCRIPT)
    (here / "load.py").write_text(LOAD)
    python(there, "session_based.py", url)
    assert python(here, "load.py", url) == "first session_based"


def test_d10_in_the_script_itself_it_is_the_class_of_the_script(tmp_path):
    url = f"sqlite:///{tmp_path}/tasks.db"
    script = tmp_path / "session_based.py"
    script.write_text(SCRIPT)
    python(tmp_path, "session_based.py", url)
    script.write_text(SCRIPT.partition("if __name__")[0] + AGAIN)
    assert python(tmp_path, "session_based.py", url) == "first"


def test_d10_a_script_whose_name_is_no_name_of_a_module(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    url = f"sqlite:///{tmp_path}/tasks.db"
    (there / "run-tasks.py").write_text(SCRIPT)
    (here / "load.py").write_text(LOAD)
    python(there, "run-tasks.py", url)
    name, module = python(here, "load.py", url).split()
    assert (name, module.startswith("typed_")) == ("first", True)
