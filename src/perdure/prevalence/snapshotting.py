"""What a system does to have snapshots: when one is due, what is done while commands wait, what beside them.

- While commands wait, the process forks (and the journal is synced, where that is not always done). All else
  is done by a thread, and by the child; the journal's next file is begun by the command that needs it.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from perdure.errors import PerdureError, PrevalenceError
from perdure.prevalence.codes import keep_code
from perdure.prevalence.folder import Folder
from perdure.prevalence.moments import local
from perdure.prevalence.settings import Settings
from perdure.prevalence.snapshots import Told, salt_for
from perdure.prevalence.taking import Taken, Taking, drop_old, how_here
from perdure.records.seal import Key


class Journaled(Protocol):
    """What a snapshot asks of a journal."""

    bytes: int  # that were written since the system was opened

    def sync(self) -> None: ...

    def retire(self) -> None: ...


class TakesSnapshots:
    """The part of a `System`, or a `Standby`, that takes snapshots of it."""

    root: Any
    said: list[str]
    _folder: Folder
    _key: Key
    _settings: Settings
    _work: threading.RLock
    _journal: Journaled
    _sequence: int
    _time: float
    _modules: set[str]
    _taking: Taking | None
    _snapshot: int  # the last command in the newest one
    _snapshot_bytes: int  # of journal when it was made
    _spent: float  # seconds that were spent on what came since

    def snapshot(self, *, wait: bool = True) -> Taken | None:
        """Write the whole system to a file while commands go on; says what was written once it is durable.

        Without `wait` it returns at once, with None, and an error is told by the next call. Raises what the user's
        classes raise when they are pickled, or a `StorageError`; the system goes on all the same.
        """
        self._refuse_inside("snapshot")
        taking = self._begin_snapshot()
        if not wait:
            return None
        taking.done.wait()
        if taking.error is not None:
            raise taking.error
        return taking.taken

    def _refuse_inside(self, what: str) -> None:
        if local.moment is not None:
            raise PrevalenceError(
                f"{what}() was called by a command.",
                hint="A command changes the system directly, and calls other commands as plain methods.",
            )

    def _code(self) -> str:
        if self._settings.code == "off":
            return ""
        return keep_code(self._folder, self._key, {*self._modules, type(self.root).__module__})

    def _begin_snapshot(self) -> Taking:
        code = self._code()  # it may ask git, while commands go on
        with self._work:
            under_way = self._taking
            if under_way is not None and not under_way.done.is_set():
                return under_way
            began = time.perf_counter()
            self._journal.sync()
            self._journal.retire()
            told = self._told(code)
            how = self._settings.how or how_here(self._folder)
            taking = Taking(self._folder, self._key, self.root, told, how, began)
            try:
                taking.begin()
                self._taking = taking
                self._snapshot, self._snapshot_bytes, self._spent = self._sequence, self._journal.bytes, 0.0
                if how == "fork":
                    finish = threading.Thread(target=self._finish_snapshot, args=(taking,), name="perdure snapshot")
                    finish.daemon = True
                    finish.start()
            except BaseException:
                taking.abandon()
                raise
        if how != "fork":
            self._finish_snapshot(taking)
        return taking

    def _finish_snapshot(self, taking: Taking) -> None:
        try:
            taking.finish(self._again)
            if taking.error is None:
                drop_old(self._folder, self._settings.keep, self._settings.clock.now(), self._key)
            else:
                self.said.append(f"A snapshot could not be made: {taking.error}")
        except PerdureError as error:
            self.said.append(f"Old files could not be removed: {error}")
        finally:
            taking.done.set()

    def _again(self) -> Taking:
        """The same snapshot by this process, since the child did not succeed; it tells why not."""
        with self._work:
            began = time.perf_counter()
            self._journal.sync()
            self._journal.retire()
            taking = Taking(self._folder, self._key, self.root, self._told(self._code()), "here", began)
            taking.begin()
            return taking

    def _told(self, code: str) -> Told:
        settings = self._settings
        folder = self._folder
        return Told(
            folder.id, self._sequence, self._time, settings.clock.now(), code, settings.compress, salt_for(folder)
        )

    def _snapshot_if_due(self) -> None:
        settings = self._settings
        commands = self._sequence - self._snapshot
        if (
            (settings.snapshot_commands and commands >= settings.snapshot_commands)
            or (settings.snapshot_bytes and self._journal.bytes - self._snapshot_bytes >= settings.snapshot_bytes)
            or (settings.snapshot_recovery and self._spent >= settings.snapshot_recovery)
        ):
            try:
                self._begin_snapshot()
            except Exception as error:  # noqa: BLE001 (the commands have succeeded)
                self._snapshot, self._spent = self._sequence, 0.0
                self.said.append(f"A snapshot could not be made: {error}")
