"""A fork beside threads that are at work in a store: the child has a store that it can use."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKS = 12

PROGRAM = f"""
import os, sys, threading, time
import perdure

class Item(perdure.Persistable):
    value = 0

store = perdure.make_store(sys.argv[1])
store.save(Item())
done = threading.Event()

def work():
    while not done.is_set():
        store.save(Item())

thread = threading.Thread(target=work)
thread.start()
failed = []
for _ in range({FORKS}):
    time.sleep(0.01)
    child = os.fork()
    if not child:
        store.save(Item())
        os._exit(0 if len(store) > 1 else 1)
    end = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.005)
    if not ended[0]:
        os.kill(child, 9)
        os.waitpid(child, 0)
    if not ended[0] or ended[1]:
        failed.append(ended)
done.set()
thread.join()
store.save(Item())
store.close()
sys.exit(len(failed))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")
@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/a.db", "{}/folder"])
def test_a_fork_beside_a_busy_thread(tmp_path, url):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, url.format(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr


LOOKING = """
import os, signal, sys, threading
import perdure
from perdure import kernels

class Item(perdure.Persistable):
    value = 0

if sys.argv[2] == "pure":
    kernels.compiled = None
store = perdure.make_store(sys.argv[1])
item = Item()
item.number = 1
id_ = store.save(item)
looks, is_over = threading.Event(), threading.Event()

def look():
    with view.lock:  # what a touch by another thread does
        looks.set()
        is_over.wait(60)

view = store.desk().view
thread = threading.Thread(target=look)
thread.start()
looks.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    ok = item.number == 1 and store.load(id_) is item
    item.number = 2
    store.save(item)
    os._exit(0 if ok else 1)
ended = os.waitpid(child, 0)[1]
is_over.set()
thread.join()
sys.exit(ended != 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")
@pytest.mark.parametrize("way", ["compiled", "pure"])
def test_a_fork_beside_a_thread_that_looks_at_an_object_of_the_same_view(tmp_path, way):
    arguments = [f"sqlite:///{tmp_path}/a.db", way]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOOKING, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
