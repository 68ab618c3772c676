"""What the errors of database servers and their drivers mean, in perdure's own words.

- An error is first sorted into a `Trouble`, by SQLSTATE (PostgreSQL) or by number (MySQL, MariaDB); what happens next
  depends on that alone: repeat, reconnect, wait, or tell.
- What is told names the server, the database and the table, never a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

from perdure.errors import (
    AccessDenied,
    ConnectionLost,
    DiskFull,
    InvalidArgument,
    NotAStore,
    OutcomeUnknown,
    PerdureError,
    StorageError,
    StoreBusy,
    StoreNotFound,
)


class Trouble(Enum):
    """What kind of failure an error of a driver tells of."""

    ABSENT = auto()  # no server answers, or it takes no connections yet
    LOST = auto()  # the connection broke, or the server ended it
    BUSY = auto()  # a lock or a connection was waited for too long
    AGAIN = auto()  # a deadlock, or a failure to serialise: nothing was done, the same may succeed now
    DENIED = auto()  # this user may not
    NO_DATABASE = auto()
    NO_SCHEMA = auto()  # in which tables could be made
    OPTION = auto()  # of the URL, which the driver or its library does not take
    NO_TABLE = auto()  # a table or a column is not there
    NAME_TAKEN = auto()  # a table, an index, a type of that name is there
    TAKEN = auto()  # a key that must be unique is not
    FULL = auto()  # no space is left
    TOO_LARGE = auto()
    VALUE = auto()  # a column cannot hold it
    OTHER = auto()


TroubleOf = Callable[[Exception], Trouble]

# What libpq, or psycopg, says of an option before it asks any server.
_OPTION = re.compile(
    r"connection is bad: .*\binvalid\b|invalid connection option|bad value for|is not a connection option"
)

_BY_STATE = {
    "57P01": Trouble.LOST,  # admin_shutdown: also pg_terminate_backend
    "57P02": Trouble.LOST,  # crash_shutdown
    "57P05": Trouble.LOST,  # idle_session_timeout
    "25P03": Trouble.LOST,  # idle_in_transaction_session_timeout
    "57P03": Trouble.ABSENT,  # cannot_connect_now
    "55P03": Trouble.BUSY,  # lock_not_available
    "53300": Trouble.BUSY,  # too_many_connections
    "57014": Trouble.BUSY,  # query_canceled: a statement_timeout of the server's
    "40001": Trouble.AGAIN,  # serialization_failure
    "40P01": Trouble.AGAIN,  # deadlock_detected
    "42501": Trouble.DENIED,  # insufficient_privilege
    "25006": Trouble.DENIED,  # read_only_sql_transaction: a standby
    "3D000": Trouble.NO_DATABASE,
    "3F000": Trouble.NO_SCHEMA,  # invalid_schema_name
    **dict.fromkeys(("42P07", "42710", "42809"), Trouble.NAME_TAKEN),
    "42P01": Trouble.NO_TABLE,
    "42703": Trouble.NO_TABLE,  # undefined_column
    "23505": Trouble.TAKEN,
    "53100": Trouble.FULL,
    "54000": Trouble.TOO_LARGE,
}
_BY_STATE_CLASS = {"08": Trouble.LOST, "22": Trouble.VALUE, "28": Trouble.DENIED}  # 22: data_exception
_BY_TEXT = {  # a refused connection has no SQLSTATE
    "too many": Trouble.BUSY,
    "remaining connection slots": Trouble.BUSY,
    "authentication failed": Trouble.DENIED,
    "no password supplied": Trouble.DENIED,
    "pg_hba.conf": Trouble.DENIED,
    "permission denied": Trouble.DENIED,
    "FATAL:  role": Trouble.DENIED,
    "FATAL:  database": Trouble.NO_DATABASE,
}

_BY_NUMBER = {
    **dict.fromkeys((2001, 2002, 2003, 2005, 1053), Trouble.ABSENT),  # cannot connect; the server is shutting down
    **dict.fromkeys((0, 1927, 1317, 2006, 2012, 2013, 2014, 2055, 4031, 1159, 1161), Trouble.LOST),  # killed, timed out
    **dict.fromkeys((1040, 1203, 1205, 1226, 3572, 4025), Trouble.BUSY),  # connections, locks
    **dict.fromkeys((1213, 1020), Trouble.AGAIN),  # deadlock; changed since it was read
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1290, 1370, 1698, 1792, 1836), Trouble.DENIED),
    1049: Trouble.NO_DATABASE,
    **dict.fromkeys((1146, 1054, 1932), Trouble.NO_TABLE),
    **dict.fromkeys((1050, 1061), Trouble.NAME_TAKEN),
    **dict.fromkeys((1062, 1586, 1048), Trouble.TAKEN),  # 1048: the revision is NULL where another commit was first
    **dict.fromkeys((3, 28, 1021, 1041, 1114), Trouble.FULL),
    **dict.fromkeys((1118, 1153, 1301), Trouble.TOO_LARGE),
    **dict.fromkeys((1264, 1265, 1292, 1366, 1367, 1406, 1411, 1690), Trouble.VALUE),  # range, type, length
}


def postgresql_trouble(error: Exception) -> Trouble:
    """What kind of failure an error of psycopg's tells of."""
    state = getattr(error, "sqlstate", None)
    if state:
        return _BY_STATE.get(state) or _BY_STATE_CLASS.get(state[:2], Trouble.OTHER)
    text = str(error)
    if _OPTION.search(text):
        return Trouble.OPTION
    if "connection failed" in text or "failed to resolve host" in text or "connection timeout" in text:
        return next((trouble for part, trouble in _BY_TEXT.items() if part in text), Trouble.ABSENT)
    if type(error).__name__ == "DataError":
        return Trouble.VALUE  # the driver says it, of a NUL character say
    # Without a state it is libpq that speaks, not the server: of the connection, if it is an operational error.
    is_lost = type(error).__name__ in ("OperationalError", "InterfaceError")
    return Trouble.LOST if is_lost else Trouble.OTHER


def mysql_trouble(error: Exception) -> Trouble:
    """What kind of failure an error of PyMySQL's, or of mysqlclient's, tells of."""
    number = error.args[0] if error.args else 0
    if not isinstance(number, int):
        return Trouble.LOST if type(error).__name__ == "InterfaceError" else Trouble.OTHER
    return _BY_NUMBER.get(number, Trouble.OTHER)


def translate(trouble: Trouble, error: Exception, place: str, timeout: float, *, was_open: bool) -> PerdureError:
    """The error of perdure's that says of the store at `place` what the driver's `error` says.

    A server that does not answer is another matter if it `was_open` before: it may well come back.
    """
    said = " ".join(str(error.args[-1] if error.args else error).split())
    match trouble:
        case Trouble.ABSENT if was_open:
            return ConnectionLost(
                f"The server of {place} does not answer any more: {said}.", hint="Nothing was kept; try again."
            )
        case Trouble.BUSY:
            return busy(place, timeout, said)
        case Trouble.OPTION:
            return wrong_option(place, error)
        case Trouble.TOO_LARGE | Trouble.VALUE:
            return too_large(place, said)
        case Trouble.TAKEN | Trouble.OTHER:
            return StorageError(
                f"The database of {place} failed: {said} ({type(error).__name__}).",
                hint="Look at what the server says, and at its log.",
            )
    kind, message, hint = _TOLD[trouble]
    return kind(message.format(place=place, said=said), hint=hint)


_TOLD: dict[Trouble, tuple[type[PerdureError], str, str]] = {
    Trouble.ABSENT: (
        StorageError,
        "No server answers for {place}: {said}.",
        "Is it running, and are host and port right?",
    ),
    Trouble.LOST: (ConnectionLost, "The connection to {place} was lost: {said}.", "Nothing was kept; try again."),
    Trouble.AGAIN: (StoreBusy, "{place} found others in the way again and again: {said}.", "Try again."),
    Trouble.DENIED: (
        AccessDenied,
        "{place} refuses this user: {said}.",
        "Look at name and password in the URL, and at what the database grants to this user.",
    ),
    Trouble.NO_DATABASE: (
        StoreNotFound,
        "There is no such database for {place}: {said}.",
        "Make the database first.",
    ),
    Trouble.NO_SCHEMA: (
        StoreNotFound,
        "There is no schema for the tables of {place}: {said}.",
        "Make the schema first, or look at the search_path that the URL or the database sets.",
    ),
    Trouble.NO_TABLE: (
        StorageError,
        "The tables of {place} are not what they were when it was opened: {said}.",
        "Open it again: that tells what is lacking.",
    ),
    Trouble.NAME_TAKEN: (
        NotAStore,
        "{place} cannot be made: the database has something else of that name: {said}.",
        "Name another table (#table=NAME at the end of the URL).",
    ),
    Trouble.FULL: (DiskFull, "No space is left for {place}; nothing of this commit was kept: {said}.", "Make room."),
}


def busy(place: str, timeout: float, said: str) -> StoreBusy:
    """The error for a wait of `timeout` seconds that was not long enough."""
    return StoreBusy(
        f"{place} was kept locked by others for more than {timeout:g} seconds: {said}.",
        hint="Try again, or give a longer timeout.",
    )


def too_large(place: str, said: str) -> StorageError:
    """The error for a record that the server does not take."""
    return StorageError(
        f"A record is too large for {place}, or no table can hold it; nothing of this commit was kept: {said}.",
        hint="Split the object, or raise the server's limit.",
    )


def wrong_option(place: str, error: BaseException) -> InvalidArgument:
    """The error for options in a URL that the driver does not take."""
    said = " ".join(str(error).split()).rstrip(".")
    return InvalidArgument(
        f"The driver refuses the options in the URL of {place}: {said}.",
        hint="Look at what stands after the ? in the URL, and at what the driver's connect() takes.",
    )


def outcome_unknown(place: str) -> OutcomeUnknown:
    """The error for a commit that may or may not have reached the server, and for every write after it."""
    return OutcomeUnknown(
        f"The connection to {place} was lost while a commit was under way, and no new one could be made; nobody knows"
        " whether the commit is there.",
        hint="Open the store again once the server answers, and look which revision it has.",
    )


def replaced(place: str) -> StorageError:
    """The error for a store in whose place somebody has made another one."""
    return StorageError(
        f"{place} was replaced while it was open: its tables were dropped, and hold another store now.",
        hint="Open it again, if that is the store that is meant.",
    )


def foreign(place: str, tables: list[str]) -> NotAStore:
    """The error for tables of another program under the names that a store's would have."""
    return NotAStore(
        f"{place} is no store: the database has {', '.join(map(repr, tables))} of another layout.",
        hint="Name another table (?table=NAME in the URL), or another database.",
    )
