"""A progress bar for what takes longer than a second, where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perdure.cli.terminal import is_terminal


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """Gives a function that is told what is done, and of how many; None where nobody looks."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from tqdm import tqdm  # type: ignore[import-untyped]  # only who looks pays for it

    with tqdm(unit=unit, file=sys.stderr, leave=False, dynamic_ncols=True, delay=1.0) as bar:

        def progress(done: int, of: int) -> None:
            if done < bar.n:
                bar.reset(of)
            bar.total = of
            bar.update(done - bar.n)

        yield progress
