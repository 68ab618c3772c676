"""The stores that a URL can mean, and `make_store`, which finds the one.

- Every constructor takes the arguments of all the others and leaves what is not its own aside, so that one set of
  arguments fits every store (as in gc3libs); a name that none of them knows gets a warning with the nearest known one.
- The key of a new store is made with it and kept in the user's key ring; an existing store's is looked up there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import platformdirs

from perdure.backends.base import Backend
from perdure.backends.encrypted import at_rest, opened_for
from perdure.backends.memory import MemoryBackend
from perdure.backends.naming import checked_path
from perdure.backends.sqlite.backend import NO_COLUMNS, SqliteBackend
from perdure.backends.urls import SERVERS, open_server, refuse_options, split_table, with_table, without_password
from perdure.clock import Clock
from perdure.errors import InvalidArgument, KeyMissing, UnknownScheme
from perdure.evolution.renames import declare_names
from perdure.evolution.versions import require_complete_chains
from perdure.ids import IdFactory
from perdure.keys import KeyRing, read_key_file
from perdure.objects.instances.columns import Accessor, ExtraFields
from perdure.objects.instances.states import PROTOCOL
from perdure.objects.store import CodeChoice, HistoryChoice, Store, Trust
from perdure.objects.views.resting import CACHE_SIZE
from perdure.pickling.own.limits import Limits
from perdure.records.encryption import require_library
from perdure.records.seal import Key


class KeyId(int):
    """The id of a key that may not be on this machine: for a store whose records come from elsewhere, sealed."""


KeySource = Key | KeyId | str | os.PathLike[str]
LONGEST_WAIT = 2_000_000.0  # seconds, 23 days: PostgreSQL counts its time-outs in milliseconds of 31 bits
WAIT = 60.0  # seconds that a waiting writer waits before StoreBusy

_EVERYWHERE = ("idfactory", "protocol", "trust", "clock", "code", "resources", "cache_size", "history", "limits")
_KNOWN = (
    *_EVERYWHERE,
    *("directory", "url", "table_name", "extra_fields", "create", "key", "read_only", "timeout", "names", "encrypt"),
)


class MemoryStore(Store):
    """A store that lives as long as this process; the reference for the others."""

    def __init__(
        self,
        *,
        idfactory: IdFactory | None = None,
        protocol: int = PROTOCOL,
        trust: Trust | None = None,
        read_only: bool = False,
        clock: Clock | None = None,
        code: CodeChoice = "recorded",
        history: HistoryChoice = "on",
        resources: Mapping[str, Any] | None = None,
        extra_fields: Mapping[Any, Accessor] | None = None,
        cache_size: int = CACHE_SIZE,
        encrypt: bool | None = None,
        limits: Limits | None = None,
        **extra: Any,
    ):
        _warn_of_unknown(extra)
        fields = _fields(extra_fields, encrypt)
        key = Key.new()
        backend = opened_for(MemoryBackend(new_key=lambda: key.id, read_only=read_only), key, encrypt)
        super().__init__(
            backend,
            key,
            idfactory=idfactory,
            protocol=protocol,
            trust=trust,
            clock=clock,
            code=code,
            history=history,
            resources=resources,
            extra_fields=fields,
            cache_size=cache_size,
            limits=limits,
        )
        self.url = "memory:"


class FilesystemStore(Store):
    """A store in a directory: each object in a file that is named by its id.

    Without a directory it is `perdure/objects` in the user's data directory. `key` is a `Key` or the path of a key
    file; `timeout` (seconds) is how long a writer waits for other processes.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        idfactory: IdFactory | None = None,
        protocol: int = PROTOCOL,
        *,
        key: KeySource | None = None,
        trust: Trust | None = None,
        read_only: bool = False,
        create: bool = True,
        timeout: float = WAIT,
        clock: Clock | None = None,
        code: CodeChoice = "recorded",
        history: HistoryChoice = "on",
        resources: Mapping[str, Any] | None = None,
        extra_fields: Mapping[Any, Accessor] | None = None,
        cache_size: int = CACHE_SIZE,
        encrypt: bool | None = None,
        limits: Limits | None = None,
        **extra: Any,
    ):
        _warn_of_unknown(extra)
        fields = _fields(extra_fields, encrypt)
        place = default_directory() if directory is None else Path(directory)
        timeout = _seconds(timeout)

        def opened(new_key: Callable[[], int]) -> Backend:
            from perdure.backends.filesystem.backend import FilesystemBackend  # only who has one pays for it

            return FilesystemBackend(place, new_key=new_key, create=create, read_only=read_only, timeout=timeout)

        backend, found = _with_key(opened, key, encrypt, fields)
        super().__init__(
            backend,
            found,
            idfactory=idfactory,
            protocol=protocol,
            trust=trust,
            clock=clock,
            code=code,
            history=history,
            resources=resources,
            extra_fields=fields,
            cache_size=cache_size,
            limits=limits,
        )
        self.directory = place
        self.url = place.absolute().as_uri()


class SqlStore(Store):
    """A store in an SQL database: `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://…`, `mysql://…`.

    `table_name` names the store's tables (on a server usually `perdure`), as does `#table=NAME` or `?table=NAME` at the
    end of the URL; a SQLite file may then hold other things as well. `.table_name` is the name, `.url` the URL without
    its password. Raises `DriverMissing` where the packages for that kind of server are not installed.
    """

    def __init__(
        self,
        url: str,
        idfactory: IdFactory | None = None,
        protocol: int = PROTOCOL,
        *,
        key: KeySource | None = None,
        trust: Trust | None = None,
        table_name: str | None = None,
        read_only: bool = False,
        create: bool = True,
        timeout: float = WAIT,
        clock: Clock | None = None,
        code: CodeChoice = "recorded",
        history: HistoryChoice = "on",
        resources: Mapping[str, Any] | None = None,
        extra_fields: Mapping[Any, Accessor] | None = None,
        cache_size: int = CACHE_SIZE,
        encrypt: bool | None = None,
        limits: Limits | None = None,
        **extra: Any,
    ):
        _warn_of_unknown(extra)
        fields = _fields(extra_fields, encrypt)
        place, table = split_table(url, table_name)
        timeout = _seconds(timeout)

        columns = fields.columns if fields is not None else NO_COLUMNS

        def opened(new_key: Callable[[], int]) -> Backend:
            if (_scheme(place) or "").partition("+")[0] in SERVERS:
                return open_server(
                    place,
                    table,
                    new_key=new_key,
                    create=create,
                    read_only=read_only,
                    timeout=timeout,
                    columns=columns,
                )
            path = _sqlite_path(place)
            return SqliteBackend(
                path,
                new_key=new_key,
                create=create,
                read_only=read_only,
                timeout=timeout,
                columns=columns,
                table_name=table,
            )

        backend, found = _with_key(opened, key, encrypt, fields)
        super().__init__(
            backend,
            found,
            idfactory=idfactory,
            protocol=protocol,
            trust=trust,
            clock=clock,
            code=code,
            history=history,
            resources=resources,
            extra_fields=fields,
            cache_size=cache_size,
            limits=limits,
        )
        self.url = with_table(without_password(url), table_name)
        self.table_name: str | None = getattr(at_rest(backend), "table_name", None)


def store_on(
    open_backend: Callable[[Callable[[], int]], Backend],
    *,
    url: str = "",
    key: KeySource | None = None,
    extra_fields: Mapping[Any, Accessor] | None = None,
    encrypt: bool | None = None,
    **options: Any,
) -> Store:
    """A store on a backend of your own: what `open_backend(new_key)` gives, which hands `new_key` on to its backend.

    `url` is what the store calls itself. The key of a new store is made, unless one is given, and kept in the user's
    key ring. With `encrypt` the backend sees nothing that is not encrypted; it must have `mark_encrypted`. `options`
    are those of `make_store` that do not concern the place: `trust`, `resources`, `history` and so on; others are left
    aside, with a warning for unknown ones.
    """
    _warn_of_unknown(options)
    fields = _fields(extra_fields, encrypt)
    backend, found = _with_key(open_backend, key, encrypt, fields)
    own = {name: value for name, value in options.items() if name in _EVERYWHERE}
    store = Store(backend, found, extra_fields=fields, **own)
    store.url = url
    return store


def default_directory() -> Path:
    """Where `FilesystemStore()` keeps its objects."""
    return Path(platformdirs.user_data_dir("perdure", appauthor=False)) / "objects"


Constructor = Callable[..., Any]


def _memory(url: str, *args: Any, **extra: Any) -> MemoryStore:
    if url.partition(":")[2] not in ("", "//", "///"):
        refuse_options(url)
        raise UnknownScheme(f"{url} names more than memory.", hint="A store in memory is memory: and nothing else.")
    return MemoryStore(*args, **extra)


def _filesystem(url: str, *args: Any, **extra: Any) -> FilesystemStore:
    directory = extra.pop("directory", None)
    return FilesystemStore(_file_path(url) if directory is None else directory, *args, **extra)


_constructors: dict[str, Constructor] = {"memory": _memory, "file": _filesystem, "sqlite": SqlStore}
_constructors.update(dict.fromkeys(SERVERS, SqlStore))


def register(scheme: str, constructor: Constructor) -> None:
    """Let `make_store` call `constructor(url, *args, **extra_args)` for URLs of that scheme.

    What it gives need not be a `Store`; `list` is optional (`NotImplementedError`), as in gc3libs.
    """
    _constructors[scheme] = constructor


def make_store(
    uri: str | os.PathLike[str], *args: Any, names: str | os.PathLike[str] | None = None, **extra_args: Any
) -> Store:
    """Open the store at `uri`: `memory:`, `sqlite:///shop.db`, `postgresql://user@host/database`, `mysql://…`,
    `mariadb://…`, `file:///var/jobs`, or a path of a directory.

    Further arguments go to the store's constructor: `key`, `trust="all"`, `read_only=True`, `idfactory`, `timeout`,
    `resources` (a mapping, for references to what is outside of the store), `extra_fields` (a function of the object
    for each column: a name, or a column of SQLAlchemy's), `code="archived"` (classes that are not here come from the
    code records of their objects, whose code is run), `"commits"` (no texts are kept) or `"off"` (no code records),
    `history="off"` (what is replaced or removed is kept for a minute only), `encrypt=True` (a new store is encrypted,
    and stays so: with the store's key all of it can be read, without it hardly more than ids, classes, times and
    references), `limits` (a `Limits`: what a record without a good seal may take). `names` is a TOML file of renames,
    which hold for this process from now on (`declare_names`).
    Raises `UnknownScheme`, `StoreNotFound` (when reading only), `NotAStore`, `NewerFormat`, `AccessDenied`;
    `InvalidArgument` where a store that is there is not encrypted, or is and was not to be; `MissingUpgrade` where the
    upgrades of a class have a gap.
    """
    if names is not None:
        declare_names(names)
    require_complete_chains()
    text = _text(uri)
    scheme = _scheme(text)
    if scheme is None:
        checked_path(text)
        return cast(Store, _constructors["file"](Path(text).absolute().as_uri(), *args, **extra_args))
    constructor = _constructors.get(scheme) or _constructors.get(scheme.partition("+")[0])
    if constructor is None:
        raise UnknownScheme(
            f"No kind of store is registered for {scheme!r}.",
            hint=f"There are: {', '.join(sorted(_constructors))}, and plain paths of directories.",
        )
    return cast(Store, constructor(text, *args, **extra_args))  # a registered one may be of another kind


def _text(uri: object) -> str:
    text = os.fspath(uri) if isinstance(uri, os.PathLike) else uri
    if not isinstance(text, str):
        raise TypeError(
            f"A store is named by a URL or the path of a directory, not by {type(uri).__name__}: {uri!r:.60}"
        )
    if not text.strip():
        raise UnknownScheme(
            "The URL of the store is empty.",
            hint="Is an environment variable empty, such as PERDURE_STORE? The working directory is '.'.",
        )
    return text


def _scheme(text: str) -> str | None:
    """The scheme of a URL; None for a path (a letter and a colon are a drive, not a scheme)."""
    scheme, colon, _ = text.partition(":")
    plain = scheme.replace("+", "").replace("-", "").replace(".", "")
    return scheme.lower() if colon and len(scheme) > 1 and plain.isalnum() and plain.isascii() else None


def _file_path(url: str) -> Path:
    refuse_options(url, after="?#")
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UnknownScheme(
            f"{url} names another machine, {parts.netloc}.", hint="A directory of this one has three slashes: file:///."
        )
    return Path(unquote(parts.path))


def _sqlite_path(url: str) -> str:
    """The path in a URL as SQLAlchemy reads it: three slashes and a relative path, four and an absolute one."""
    refuse_options(url)
    _, _, rest = url.partition("://")
    path = unquote(rest.partition("?")[0].removeprefix("/"))
    if not rest.startswith("/") or path in ("", ":memory:"):
        raise UnknownScheme(
            f"{url} names no file.",
            hint="Write sqlite:///relative.db or sqlite:////absolute.db; a store in memory is memory:.",
        )
    return path


def key_from(given: KeySource | None) -> Key | None:
    """The key that was given, or that is in the file that was; None where there is only its id, or nothing."""
    if given is None or isinstance(given, KeyId):
        return None
    if not isinstance(given, (Key, str, os.PathLike)):
        raise InvalidArgument(f"a key is a Key or the path of its file, not {type(given).__name__}")
    return given if isinstance(given, Key) else read_key_file(given)


def _with_key(
    opened: Callable[[Callable[[], int]], Backend],
    given: KeySource | None,
    encrypt: bool | None,
    fields: ExtraFields | None,
) -> tuple[Backend, Key | None]:
    """The backend and the store's key: made only if the store is made."""
    if encrypt:
        require_library()
    ring, key = KeyRing(), key_from(given)
    backend = opened(lambda: given if isinstance(given, KeyId) else (key or ring.make()).id)
    with ExitStack() as on_error:
        on_error.callback(backend.close)
        described = backend.describe().key
        if key is not None and key.id != described:
            raise KeyMissing(
                f"The store is sealed with the key {described:08x}; the key that was given is {key.name}.",
                hint="Give the file that `perdure key export` wrote where the store was made.",
            )
        found = key or ring.get(described)
        backend = opened_for(backend, found, encrypt)
        _refuse_columns(fields, encrypted=at_rest(backend) is not backend)
        on_error.pop_all()
    return backend, found


def _fields(given: Mapping[Any, Accessor] | None, encrypt: bool | None) -> ExtraFields | None:
    """The columns that were asked for; none if there are none."""
    fields = ExtraFields(given) if given else None
    _refuse_columns(fields, encrypted=bool(encrypt))
    return fields


def _refuse_columns(fields: ExtraFields | None, *, encrypted: bool) -> None:
    if fields is not None and encrypted:
        raise InvalidArgument(
            f"An encrypted store has no extra fields: {', '.join(fields.names)} would be there for everybody to read.",
            hint="Leave extra_fields away, or encrypt=True.",
        )


def _seconds(timeout: Any) -> float:
    """A time-out that every backend can wait for."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidArgument(
            f"timeout is a number of seconds, not {timeout!r:.60}.", hint="Give a number from 0 on, such as 60.0."
        )
    return min(timeout, LONGEST_WAIT)


def _warn_of_unknown(extra: dict[str, Any]) -> None:
    for name in extra:
        if name in _KNOWN:
            continue
        import difflib  # only a mistake pays for it

        near = difflib.get_close_matches(name, _KNOWN, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        warnings.warn(f"No store has an argument {name!r}{meant}", stacklevel=3)
