"""What an interruption (Ctrl-C, a signal whose function raises) has cut off: it waits here for whoever comes next.

- It may come after each line. So what needs several steps can be done twice, and is noted before the first.
- What raises an error of perdure's has come to its end; anything else has cut it off, and it is done again.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.errors import PerdureError

ATTEMPTS = 3  # then it is no interruption, but an error that comes each time


class Unfinished(list[Callable[[], object]]):
    """Work in the order in which it was begun; a list, so that asking whether there is any costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts = 0
        self._is_finishing = False

    def do(self, work: Callable[[], object]) -> None:
        """Do it now, after all that waits; if it is interrupted, it waits."""
        if not self._is_finishing:
            self.append(work)
            self.finish()
            return
        try:
            work()
        except BaseException:
            self.append(work)
            raise

    def finish(self) -> None:
        """Do all that waits; from within that, nothing. Raises what the work raises."""
        if self._is_finishing:
            return
        try:
            self._is_finishing = True
            while self:
                try:
                    self[0]()
                except PerdureError:
                    self._drop()
                    raise
                except Exception:
                    self._attempts += 1
                    if self._attempts == ATTEMPTS:
                        self._drop()
                    raise
                self._drop()
        finally:
            self._is_finishing = False

    def _drop(self) -> None:
        self._attempts = 0
        del self[:1]
