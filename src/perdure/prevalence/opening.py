"""Opening a prevalent system: making it, recovering it, looking at it as it is or as it was.

- What is made has a key of its own, and its first snapshot is durable before it is a system at all.
- Before anything is built upon what was found, it is made durable, and a torn tail is cut off: a killed process may
  have left what the power would still take away.
- To read needs no lock and writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, overload

from perdure.clock import Clock
from perdure.errors import InvalidArgument, KeyMissing, PrevalenceError
from perdure.files import Files
from perdure.keys import KeyRing, read_key_file
from perdure.objects.store import Store
from perdure.prevalence.codes import keep_code
from perdure.prevalence.folder import Folder
from perdure.prevalence.following import Follower
from perdure.prevalence.promoting import refuse_standby
from perdure.prevalence.receiving import is_address
from perdure.prevalence.recovery import Limits, Recovered, recover
from perdure.prevalence.serving import checked_serve
from perdure.prevalence.settings import Durability, Keep, Settings, checked
from perdure.prevalence.snapshots import Told, put_in_place, read_snapshot, salt_for, write_snapshot
from perdure.prevalence.standby import Standby
from perdure.prevalence.stored import StoreDisk
from perdure.prevalence.system import System
from perdure.prevalence.undo import require_puttable
from perdure.records.encryption import require_library
from perdure.records.seal import Key

Root = TypeVar("Root")
KeySource = Key | str | os.PathLike[str]


@overload
def open(
    directory: str | os.PathLike[str] | Store,
    root: Callable[[], Root],
    *,
    read_only: Literal[False] = ...,
    until: None = ...,
    **settings: Any,
) -> System[Root]: ...
@overload
def open(
    directory: str | os.PathLike[str] | Store,
    root: Callable[[], Root] | None = ...,
    *,
    read_only: bool = ...,
    until: int | datetime | None = ...,
    **settings: Any,
) -> Any: ...
def open(
    directory: str | os.PathLike[str] | Store,
    root: Callable[[], Any] | None = None,
    *,
    read_only: bool = False,
    until: int | datetime | None = None,
    durability: Durability = "always",
    key: KeySource | None = None,
    trust: Literal["all"] | None = None,
    timeout: float = 0.0,
    snapshot_commands: int | None = 200_000,
    snapshot_bytes: int | None = 256 << 20,
    snapshot_recovery: float | timedelta | None = 30.0,
    keep: Keep = 2,
    food_taster: bool = False,
    time_limit: float | None = None,
    code: Literal["recorded", "off"] = "recorded",
    compress: bool = False,
    encrypt: bool | None = None,
    clock: Clock | None = None,
    clock_tolerance: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
    freeze: bool = True,
    serve: str | None = None,
    sync: bool = False,
    away: Literal["refuse", "alone"] = "refuse",
    patience: float = 10.0,
    name: str | None = None,
    take_over: bool = False,
    files: Files | None = None,
    **internal: Any,
) -> Any:
    """Open the system in a directory, or of that `name` in a store, for writing; `root()` makes a new one's root.

    One process writes: `StoreBusy` in another, after `timeout` seconds. With `read_only` you get a `Follower`; with
    `until`, the number of a command or a time, the system as it was. Damage that could be helped is warned of, and in
    `.said`; else `CorruptJournal` says which file and byte. `progress` gets (commands done, commands in all).
    In a store `take_over` makes this the writer although another process, on a machine that died, seems to be it.
    With `serve`, an address "host:port", standbys can follow; with `sync=True` each answer waits for one of them.
    """
    if isinstance(directory, Store):
        disk = StoreDisk(directory, name or "system", take_over=take_over)
        if serve is not None or key is not None or files is not None:
            raise InvalidArgument("serve, key and files are for a system in a directory; a store has its own.")
        found, key, internal = Folder(disk.place, Files(disk)), disk.key, {"step": 0, **internal}
    else:
        found = Folder(_path_of(directory), files or Files())
        if name is not None or take_over:
            raise InvalidArgument("name and take_over are for a system in a store.")
    recovery = snapshot_recovery.total_seconds() if isinstance(snapshot_recovery, timedelta) else snapshot_recovery
    given = Settings(
        durability, snapshot_commands, snapshot_bytes, recovery, keep, food_taster, time_limit, code, compress,
        progress=progress, clock_tolerance=clock_tolerance, freeze=freeze,
        encrypt=encrypt, serve=checked_serve(serve, sync, away, patience),
    )  # fmt: skip
    if strange := sorted(internal.keys() - given._fields):
        raise InvalidArgument(f"prevalence.open takes no argument {strange[0]!r}.")
    settings = checked(given._replace(**internal) if clock is None else given._replace(clock=clock, **internal))
    if trust not in (None, "all"):
        raise InvalidArgument(f"trust is 'all' or not given, not {trust!r:.60}.")
    limits = _limits(until)
    if read_only or until is not None:
        found.identify()
        recovered = recover(found, _reading_key(found, key, trust), limits=limits, progress=progress)
        return Follower(found, _reading_key(found, key, trust), recovered, follows=until is None)
    return _open_for_writing(found, root, key, trust, timeout, settings)


def standby(
    directory: str | os.PathLike[str],
    of: str | os.PathLike[str],
    *,
    key: KeySource | None = None,
    timeout: float = 60.0,
    snapshot_commands: int | None = 200_000,
    snapshot_bytes: int | None = 256 << 20,
    snapshot_recovery: float | None = 30.0,
    keep: Keep = 2,
    code: Literal["recorded", "off"] = "recorded",
    compress: bool = False,
    freeze: bool = True,
    files: Files | None = None,
) -> Standby:
    """Follow the system that is served at an address, or that has a directory on this machine; gives the `Standby`.

    It keeps a journal and snapshots of its own in `directory`, and returns when it has a root to read; `StandbyAway`
    if the writer did not give one within `timeout` seconds.
    """
    folder = Folder(_path_of(directory), files or Files())
    settings = checked(
        Settings(
            "always", snapshot_commands, snapshot_bytes, snapshot_recovery, keep, False, None, code, compress,
            freeze=freeze,
        )
    )  # fmt: skip
    source = _path_of(of)
    if not is_address(source, folder):
        source = os.path.abspath(source)
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder.writing(0.0))
        if folder.exists():
            folder.identify()
            _own_key(folder, key)
        found = Standby(folder, _given_key(key), source, settings, stack.pop_all())
    try:
        found.wait_for(0, timeout)
    except BaseException:
        found.close()
        raise
    return found


def _open_for_writing(
    folder: Folder,
    root: Callable[[], Any] | None,
    key: KeySource | None,
    trust: str | None,
    timeout: float,
    settings: Settings,
) -> System[Any]:
    if root is None and not folder.exists():
        folder.identify()  # raises
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder.writing(timeout))
        if not folder.exists():
            assert root is not None
            _make(folder, root, key, settings)
        folder.identify()
        refuse_standby(folder)
        _encrypt_from_now_on(folder, settings.encrypt)
        own = _own_key(folder, key)
        recovered = recover(folder, None if trust else own, progress=settings.progress, freeze=settings.freeze)
        _settle(folder, recovered)
        if isinstance(root, type) and not isinstance(recovered.root, root):
            raise PrevalenceError(
                f"The root of {folder.directory} is a {type(recovered.root).__qualname__}, not a {root.__qualname__}.",
                hint="Open it with its own class, or without one.",
                path=folder.directory,
            )
        require_puttable(recovered.root)
        for line in recovered.said:
            warnings.warn(line, RuntimeWarning, stacklevel=3)
        return System(folder, own, recovered, settings, stack.pop_all())


def _make(folder: Folder, root: Callable[[], Any], key: KeySource | None, settings: Settings) -> None:
    """Make a new system, whole or not at all."""
    given = _given_key(key)
    made: list[Key] = []

    def new_key() -> int:
        made.append(given or KeyRing(files=folder.files).make())
        return made[0].id

    fresh = root()
    require_puttable(fresh)
    folder.make(new_key)
    folder.is_encrypted = bool(settings.encrypt)
    code = "" if settings.code == "off" else keep_code(folder, made[0], {type(fresh).__module__})
    now = settings.clock.now()
    path = folder.path("snapshot-0000000000000000000.new")
    try:
        write_snapshot(
            folder.files, path, fresh, Told(folder.id, 0, now, now, code, settings.compress, salt_for(folder)), made[0]
        )
        read_snapshot(folder.files, path, folder.id, made[0]).load(
            path
        )  # a root that cannot be loaded is found out now
    except BaseException:
        folder.files.unlink(path)
        raise
    put_in_place(folder, path, 0, made[0])
    folder.finish()


def _encrypt_from_now_on(folder: Folder, encrypt: bool | None) -> None:
    """Keep that the system is encrypted; one that is stays so."""
    if encrypt is False and folder.is_encrypted:
        raise InvalidArgument(
            f"{folder.directory} is encrypted, and stays so.", hint="Leave encrypt= away.", path=folder.directory
        )
    if encrypt and not folder.is_encrypted:
        require_library()
        folder.is_encrypted = True
        folder.finish()


def _settle(folder: Folder, recovered: Recovered) -> None:
    """Make durable what was found, and cut off what was torn, before anything is built upon it."""
    files = folder.files
    if recovered.torn is not None:
        files.truncate(recovered.torn[0], recovered.torn[1])
    newest = recovered.newest
    if newest is not None and folder.reached() != (newest.head.first, newest.found.last):
        files.sync(newest.path)
    files.sync_directory(folder.directory)
    folder.remove_leftovers()


def _limits(until: int | datetime | None) -> Limits:
    if isinstance(until, datetime):
        return Limits(before=until.timestamp())
    if until is not None and (not isinstance(until, int) or isinstance(until, bool) or until < 0):
        raise InvalidArgument(f"until is the number of a command, or a datetime, not {until!r:.60}.")
    return Limits(until=until)


def _path_of(place: Any) -> str:
    """The path of a directory, or an address; raises `InvalidArgument` for a store, or the URL of one."""
    if isinstance(place, Store):
        raise InvalidArgument("Standbys are for systems in directories.", hint="A store has backups of its own.")
    if not isinstance(place, (str, os.PathLike)) or not isinstance(path := os.fspath(place), str):
        raise InvalidArgument(f"A system is in a directory, or in a store, not in {place!r:.60}.")
    if "://" in path:
        raise InvalidArgument(
            f"{path} is the URL of a store, not a directory.",
            hint="In a store: prevalence.open(perdure.make_store(url), …). A standby has a directory.",
        )
    return path


def _given_key(key: KeySource | None) -> Key | None:
    return key if key is None or isinstance(key, Key) else read_key_file(key)


def _own_key(folder: Folder, key: KeySource | None) -> Key:
    given = _given_key(key)
    if given is not None and given.id != folder.key_id:
        raise KeyMissing(
            f"The system is sealed with the key {folder.key_id:08x}; the key that was given is {given.name}.",
            hint="Give the file that `perdure key export` wrote where the system was made.",
        )
    return given or KeyRing(files=folder.files).require(folder.key_id)


def _reading_key(folder: Folder, key: KeySource | None, trust: str | None) -> Key | None:
    return None if trust == "all" else _own_key(folder, key)
