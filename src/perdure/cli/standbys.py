"""`perdure prevalence standby` and `promote`: a process that follows a system, and its directory made the writer's.

- A standby carries out commands, so the modules of the system must be here: the current directory is looked in first.
- It ends with Ctrl-C or SIGTERM, and has then lost nothing: all that it acknowledged is in its directory.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from perdure.cli.options import KEY_VARIABLE
from perdure.cli.terminal import clean
from perdure.errors import KeyMissing, PrevalenceError
from perdure.prevalence.folder import Folder
from perdure.prevalence.opening import standby
from perdure.prevalence.promoting import promote_closed
from perdure.records.seal import Key

BEAT = 0.5  # seconds between two looks at how it goes


def stand_by(directory: str, of: str | None) -> int:
    """Follow a system until this process is told to end."""
    if of is None:
        raise PrevalenceError("A standby of what?", hint="--of ADDRESS, or --of DIR on this machine.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    ended = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, lambda *_: ended.set()) for each in signals]
    try:
        with standby(directory, of, key=os.environ.get(KEY_VARIABLE) or None) as found:
            print(f"Following {clean(of)} after command {found.sequence}; Ctrl-C ends it.", flush=True)
            while not ended.wait(BEAT):
                if found.error is not None:
                    raise found.error
    finally:
        for each, handling in zip(signals, before, strict=True):
            signal.signal(each, handling)
    print(f"Ended after command {found.sequence}.")
    return 0


def promote(folder: Folder, key: Key | None) -> int:
    """Make a standby's directory the writer's."""
    if key is None:
        raise KeyMissing(
            f"The key {folder.key_id:08x} is not here, and without it the old writer cannot be told.",
            hint="Take it in with: perdure key import FILE",
        )
    standing = folder.standing()
    epoch, fenced = promote_closed(folder.directory, key)
    print(f"{clean(folder.directory)} is the writer's now (epoch {epoch}); open it as any system.")
    if not fenced:
        print(f"The old writer ({clean(standing.of)}) could not be told: see that it does not run.")
    return 0
