"""A system that is only looked at: as it is, following its writer, or as it was once.

- It holds no lock and writes nothing; commands on its root are refused.
- What the writer is just writing is not seen before it is whole.
"""

from __future__ import annotations

from typing import Any

from perdure.errors import CorruptJournal, PrevalenceError, ReadOnly
from perdure.prevalence.commands import SYSTEMS, Kind
from perdure.prevalence.folder import Folder
from perdure.prevalence.moments import local
from perdure.prevalence.recovery import Recovered, recover, replay_more
from perdure.prevalence.undo import put_state
from perdure.records.seal import Key


class Follower:
    """A system that is open for reading; `prevalence.open(…, read_only=True)` gives it."""

    def __init__(self, folder: Folder, key: Key | None, recovered: Recovered, *, follows: bool):
        self.root: Any = recovered.root
        self.sequence = recovered.sequence
        self.said = recovered.said
        self.directory = folder.directory
        self._time = recovered.time
        self._folder = folder
        self._key = key
        self._follows = follows
        self._closed = False
        SYSTEMS[id(self.root)] = self

    def refresh(self) -> int:
        """Carry out what the writer has journaled since; gives how many commands that were.

        The root stays the same object. Where the journal in between is gone, the newest snapshot is taken.
        """
        if not self._follows or self._closed:
            raise PrevalenceError(
                "This is the system as it was once." if not self._closed else f"{self.directory} was closed.",
                hint="Open it with read_only=True and without `until` to follow it.",
            )
        if local.moment is not None:
            raise PrevalenceError("refresh() was called by a command.")
        before = self.sequence
        try:
            reached = replay_more(self._folder, self._key, self.root, self.sequence, self._time)
        except CorruptJournal:
            reached = None  # the files in between may have been dropped, if not: the same error comes again
        if reached is None:
            fresh = recover(self._folder, self._key)
            put_state(self.root, fresh.root)
            reached = fresh.sequence, fresh.time
        self.sequence, self._time = reached
        return self.sequence - before

    def submit(self, kind: Kind, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Refuse a command."""
        raise ReadOnly(
            f"{self.directory} was opened for reading only; {kind.title} would change it.",
            hint="Have the process that writes carry it out.",
            path=self.directory,
        )

    def execute(self, command: Any, /, *args: Any, **keywords: Any) -> Any:
        """Refuse a command."""
        raise ReadOnly(f"{self.directory} was opened for reading only.", path=self.directory)

    def close(self) -> None:
        """Let go of it; calling it twice is fine."""
        if not self._closed:
            self._closed = True
            SYSTEMS.pop(id(self.root), None)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Follower of {self.directory} after command {self.sequence}>"
