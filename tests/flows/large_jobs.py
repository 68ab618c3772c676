"""Jobs with large arguments and results, at the top level of a module, so that worker processes find them."""

from __future__ import annotations

import numpy as np

from perdure import Persistable, flow, job


class Holder(Persistable):
    def __init__(self, array):
        self.array = array


@job
def made(count):
    return np.arange(count)


@job
def doubled(array, noise):
    return {"doubled": array * 2, "noise": noise, "text": "x" * 100_000}


@job
def written(holder, value):
    holder.array[0] = value
    return holder


@flow
def chain(count, noise):
    return doubled(made(count), noise)


@flow
def writing(holder, value):
    return written(holder, value)
