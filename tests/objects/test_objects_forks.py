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
