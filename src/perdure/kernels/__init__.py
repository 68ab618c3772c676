"""The compiled part of perdure: loops that are run for each record of a bulk, in C. It is only speed.

- Built at installation by `hatch_build.py`, where a C compiler is at hand; without it perdure is pure Python.
- Each kernel stands beside the same thing in Python, which is the reference. A kernel does what is usual; what is not,
  it leaves to that, which also raises the errors.
- Modules look at `compiled` when a bulk begins, not when they are imported: tests set it to None and go both ways.
"""

from __future__ import annotations

from typing import Any

try:
    from perdure.kernels import _compiled
except ImportError:  # not built, or for another Python
    built: Any = None
else:
    built = _compiled if _compiled.claim() else None  # what it knows is that of one interpreter of the process
compiled = built  # what is used


def is_compiled() -> bool:
    """Whether the compiled part is there and used."""
    return compiled is not None
