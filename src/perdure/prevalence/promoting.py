"""Promotion: a standby becomes the writer, and the old writer is fenced off.

- Each promotion has a number of its own, the epoch, which stands in every journal file from then on. Who learns of a
  higher one takes no more commands.
- First the old writer is told, if it can be reached; then the new epoch is durable here; then commands are taken. A
  writer that cannot be reached is told as soon as it is there again, for as long as the new one runs.
- With `sync=True` the old one cannot answer a command without its standby, whether it was told or not.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

from perdure.errors import PerdureError, PrevalenceError, StorageError, StoreBusy
from perdure.files import Files
from perdure.prevalence.folder import DEPOSED, FILLING, STANDBY, WRITER, Folder, Standing
from perdure.prevalence.lines import connected, prove_standby
from perdure.prevalence.receiving import address_of
from perdure.prevalence.recovery import Recovered
from perdure.prevalence.serving import DEPOSE, REFUSED, deposed_error, promotion_of, told_by
from perdure.prevalence.settings import Settings
from perdure.prevalence.system import System
from perdure.records.seal import Key

PAUSE = 2.0  # seconds between attempts to tell a writer that it is deposed


def promoted(
    folder: Folder,
    key: Key,
    standing: Standing,
    recovered: Recovered,
    settings: Settings,
    lock: contextlib.ExitStack,
    *,
    fenced: bool,
) -> System[Any]:
    """The system of a standby that follows no more; `fenced`: the old writer knows."""
    epoch = standing.epoch + 1
    folder.note_standing(Standing(WRITER, epoch))
    if not fenced:
        recovered.said.append(f"The old writer ({standing.of}) could not be told; it is, as soon as it is there.")
    system: System[Any] = System(folder, key, recovered, settings, lock)
    if not fenced:
        threading.Thread(
            target=_keep_telling, args=(system, standing.of, folder, key, epoch), name="perdure deposing", daemon=True
        ).start()
    return system


def promote_closed(directory: str, key: Key) -> tuple[int, bool]:
    """Make a standby that no process has open a writer's directory; gives its epoch, and whether the old writer knows.

    Raises `StoreBusy`, `PrevalenceError` where it is no standby or not whole.
    """
    folder = Folder(directory, Files())
    folder.identify()
    with folder.writing(0.0):
        standing = folder.standing()
        refuse_unfit(standing, folder.directory)
        epoch = standing.epoch + 1
        fenced, refusal = depose(standing.of, folder, key, epoch)
        if refusal:
            raise not_promoted(folder.directory, refusal)
        folder.note_standing(Standing(WRITER, epoch))
    return epoch, fenced


def name_here(folder: Folder) -> str:
    """Who is promoted, for the writer that is deposed: the same each time."""
    return f"{socket.gethostname()}:{folder.directory}"


def not_promoted(directory: str, refusal: str) -> PrevalenceError:
    """The error of a standby that came too late."""
    return PrevalenceError(
        f"{directory} is not promoted: {refusal}",
        hint="Follow that one. If it is lost, see that the old writer does not run, and promote again.",
        path=directory,
    )


def refuse_unfit(standing: Standing, directory: str) -> None:
    """Raise `PrevalenceError` for what is no standby, or one that was just getting a new beginning."""
    if standing.role not in (STANDBY, FILLING):
        raise PrevalenceError(f"{directory} is no standby.", path=directory)
    if standing.role == FILLING:
        raise PrevalenceError(
            f"{directory} was just being filled, and is not whole.",
            hint="Start the standby again; what it had before is in its folder `replaced`.",
            path=directory,
        )


def refuse_standby(folder: Folder) -> None:
    """Raise if the directory must not be written: `PrevalenceError` for a standby's, `WriterDeposed`."""
    standing = folder.standing()
    if standing.role == DEPOSED:
        raise deposed_error(folder.directory, standing.epoch)
    if standing.role != WRITER:
        raise PrevalenceError(
            f"{folder.directory} is a standby of {standing.of}.",
            hint="To look: read_only=True. To make it the writer: perdure prevalence promote DIR.",
            path=folder.directory,
        )


def depose(of: str, folder: Folder, key: Key, epoch: int) -> tuple[bool, str]:
    """Tell the writer there that it is deposed: the process, or the directory of one that is dead.

    Whether it knows, and why it refuses: another standby was promoted before.
    """
    who = name_here(folder)
    try:
        with connected(address_of(of, folder)) as connection:
            line, _ = prove_standby(connection, lambda _: key)
            line.say(DEPOSE, promotion_of(epoch, who))
            kind, content = line.hear()
            return kind != REFUSED, str(json.loads(content)["why"]) if kind == REFUSED else ""
    except PerdureError:
        return _depose_dead(of, folder, epoch, who)


def _depose_dead(of: str, folder: Folder, epoch: int, who: str) -> tuple[bool, str]:
    """Where the directory of the old writer is on this machine, and nobody has it open, it says so itself."""
    old = Folder(of, folder.files)
    if not old.exists():
        return False, ""
    try:
        old.identify()
        if old.id != folder.id:
            return False, ""
        with old.writing(0.0):
            standing = old.standing()
            if standing.role == DEPOSED and standing.epoch >= epoch and standing.of not in ("", who):
                return False, f"another standby was promoted before{told_by(standing.of)}."
            if standing.role == WRITER:
                old.note_standing(Standing(DEPOSED, epoch, who))
            return True, ""
    except (StoreBusy, StorageError):
        return False, ""


def _keep_telling(system: System[Any], of: str, folder: Folder, key: Key, epoch: int) -> None:
    while not system.is_closed:
        time.sleep(PAUSE)
        if any(depose(of, folder, key, epoch)):
            return
