"""Reading ahead: who loads one object after the other, by id or by touching ghosts, mostly goes by their numbers.

- A miss right after the last one reads the records that follow as well, four times as many each time.
- What was read ahead are frames as they are at the view's revision; at another one they are forgotten.
- At most `MOST` records wait, and about `ENOUGH` bytes: as many as fit if they are like the last ones. None is read
  ahead that is not `SMALL`, so that some megabytes are the most when larger ones follow.
"""

from __future__ import annotations

from perdure.backends.base import Backend, number_of

MOST = 500  # records
ENOUGH = 1 << 20  # bytes
GAP = 16  # numbers that may be left out in between


class ReadAhead:
    """The frames of single objects, for one view."""

    def __init__(self, backend: Backend):
        self._backend = backend
        self._frames: dict[str, bytes] = {}
        self._at = -1  # the revision of the frames
        self._expected = -1  # the number after the last that was read alone
        self._end = -1  # the first number that was not read ahead
        self._count = 1
        self._size = 0  # bytes of a record, as far as was seen

    def read(self, id_: str, at: int) -> bytes | None:
        """The frame of that id at revision `at`; None if it is not there. Raises as `Backend.read` does."""
        if self._at == at:
            frame = self._frames.pop(id_, None)
            if frame is not None:
                return frame
        number = number_of(id_)
        if number != self._expected and not self._end <= number < self._end + GAP:
            self._expected, self._count = number + 1, 1
            return self._read_alone(id_, at)
        self._count = min(4 * self._count, MOST, 1 + ENOUGH // (1 + self._size))
        self._end = number + self._count
        self._frames, self._at = self._backend.read_run(number, self._end, at), at
        if self._frames:
            self._size = sum(map(len, self._frames.values())) // len(self._frames)
        frame = self._frames.pop(id_, None)
        return self._read_alone(id_, at) if frame is None else frame

    def _read_alone(self, id_: str, at: int) -> bytes | None:
        frame = self._backend.read((id_,), at).get(id_)
        self._size = max(self._size, len(frame or b""))
        return frame

    def forget(self) -> None:
        """Let go of what was read."""
        self._frames = {}
