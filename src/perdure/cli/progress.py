"""What is shown of work that takes longer than a second, where somebody looks: a bar, or that it is still going on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perdure.cli.terminal import is_terminal

PATIENCE = 1.0  # seconds after which something is shown, and between one time and the next


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """Gives a function that is told what is done, and of how many; None where nobody looks."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from tqdm import tqdm  # type: ignore[import-untyped]  # only who looks pays for it

    with tqdm(unit=unit, file=sys.stderr, leave=False, dynamic_ncols=True, delay=PATIENCE) as bar:

        def progress(done: int, of: int) -> None:
            if done < bar.n:
                bar.reset(of)
            bar.total = of
            bar.update(done - bar.n)

        yield progress


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Tell how long `what` has been going on: one call of a backend that cannot say how far it is."""
    if not is_terminal(sys.stderr):
        yield
        return
    begun, ended = time.monotonic(), threading.Event()
    shown = False

    def tell() -> None:
        nonlocal shown
        while not ended.wait(PATIENCE):
            shown = True
            print(f"\r{what} … {time.monotonic() - begun:.0f} s", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
