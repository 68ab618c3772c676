"""A flow whose engine is killed: `python -c` programs of the crash tests start it, go on with it and run it again."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import perdure
from perdure import Persistable, flow, job

WIDTH = 10  # jobs of a layer


class Ledger(Persistable):
    """Each job of the chain writes a line: in the commit of its end, or not at all."""

    def __init__(self):
        self.lines = []


def work(folder, name):
    descriptor, _ = tempfile.mkstemp(prefix=f"{name}.", dir=folder)
    os.close(descriptor)
    time.sleep(0.004)
    return name


@job
def once(folder, name, *needs):
    return work(folder, name)


@job(idempotent=True)
def again(folder, name, *needs):
    return work(folder, name)


@job
def write_once(folder, name, ledger):
    ledger.lines.append(work(folder, name))
    return ledger


@job(idempotent=True)
def write_again(folder, name, ledger):
    ledger.lines.append(work(folder, name))
    return ledger


@flow
def layers(folder, ledger, idempotent):
    """Three layers, each job of which needs two of the one before, and a chain that writes into a ledger."""
    run, write = (again, write_again) if idempotent else (once, write_once)
    below, last = [], ledger
    for layer in range(3):
        below = [run(folder, f"{layer}-{i}", *below[i : i + 2]) for i in range(WIDTH)]
        for i in range(3):
            last = write(folder, f"line-{layer}-{i}", last)
    return below, last


@job(idempotent=True)
def hold(folder, file):
    work(folder, "hold")
    while not Path(file).exists():
        time.sleep(0.005)
    return "held"


@flow
def holding(folder, file):
    return hold(folder, file)


def main():
    verb, url, executor, *rest = sys.argv[1:]
    with perdure.make_store(url) as store:
        if verb == "layers":
            perdure.start(layers, rest[0], Ledger(), rest[1] == "idempotent", store=store, executor=executor, workers=2)
        elif verb == "hold":
            perdure.start(holding, *rest, store=store, executor=executor, workers=1)
        else:
            try:
                run = getattr(perdure, verb)(rest[0], store=store, executor=executor, workers=2)
            except perdure.RunAlive as error:
                sys.stdout.write(f"RunAlive {error}\n")
            else:
                sys.stdout.write(f"{run.state}\n")


if __name__ == "__main__":
    main()
