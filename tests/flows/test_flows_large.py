"""Large pieces of arguments, of results and of what jobs change travel beside the records, on every executor."""

from __future__ import annotations

import os

import large_jobs
import numpy as np
import pytest

import perdure
from perdure.records.buffers import LARGE, digest_of

BOTH = pytest.mark.parametrize("executor", ["inline", "processes"])
COUNT = 300_000  # items of eight bytes: more than one part of a message


@BOTH
def test_large_arguments_and_results(any_store, executor):
    if any_store.url == "memory:" and executor == "processes":
        executor = "inline"
    noise = os.urandom(LARGE)
    run = perdure.start(large_jobs.chain, COUNT, noise, store=any_store, executor=executor, workers=1)
    result = run.result()
    assert (result["doubled"] == np.arange(COUNT) * 2).all()
    assert (result["noise"], result["text"]) == (noise, "x" * 100_000)
    expected = {
        digest_of(np.arange(COUNT)),
        digest_of(np.arange(COUNT) * 2),
        digest_of(noise),
        digest_of(b"x" * 100_000),
    }
    assert any_store.backend.buffers().keys() == expected


@BOTH
def test_an_array_that_a_job_changes_in_place(store, executor):
    holder = large_jobs.Holder(np.arange(COUNT))
    id_ = store.save(holder)
    run = perdure.start(large_jobs.writing, holder, -1, store=store, executor=executor, workers=1)
    assert run.result() is holder
    assert holder.array[0] == -1
    assert len(store.history(id_)) == 2
    assert len(store.backend.buffers()) == 2
