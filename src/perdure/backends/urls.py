"""URLs of SQL databases: the table in them, what of them may be shown, and the backend on a server that they mean.

- The table is named by the argument, by `#table=NAME` or by `?table=NAME`; several that differ are refused, as is any
  other fragment of a server's URL.
- Whatever else a URL says that nobody understands is refused, so that nothing is ignored in silence.
- A password is never shown; one that was not escaped, so that it would be taken for a part of the host, is refused.
- SQLAlchemy and the drivers are imported when a server's URL is opened, and only then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.errors import DriverMissing, UnknownScheme

if TYPE_CHECKING:
    from perdure.backends.base import Backend

_PASSWORD = re.compile(r"(://[^:/@?#]*):.*@")  # up to the last @, in case that one in the password is not escaped
_SECRET = re.compile(r"([?&][^=&#]*(?:pass|secret|token|key)[^=&#]*=)[^&#]*", re.IGNORECASE)
_FRAGMENT = re.compile(r"#((?:[^#=&@/?]+=[^#&@/?]*&?)+)$")


_FORM = "Write scheme://user:password@host:port/database."
_HIGHEST_PORT = 65_535
_INSTEAD = {  # of what people write who know other programs' URLs
    "mode": "Give make_store the argument read_only=True, or create=False.",
    "timeout": "Give make_store the argument timeout=SECONDS.",
    "immutable": "Give make_store the argument read_only=True.",
    "table": "Only a store in a SQL database has tables with a name.",
}


class _Kind(NamedTuple):
    """A kind of server: where its backend is, its drivers with the packages to install (the usual one first)."""

    module: str
    class_name: str
    extra: str
    drivers: Mapping[str, str]


_POSTGRESQL = _Kind("perdure.backends.server.postgresql", "PostgresqlBackend", "postgresql", {"psycopg": "psycopg"})
_MYSQL = _Kind("perdure.backends.server.mysql", "MysqlBackend", "mysql", {"pymysql": "pymysql", "mysqldb": "MySQLdb"})
_KINDS = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL}

SERVERS = tuple(_KINDS)  # the schemes that mean a server


def split_table(url: str, table_name: str | None) -> tuple[str, str | None]:
    """The URL without what names the table, and that name; None if nothing names one.

    Raises `UnknownScheme` for names that contradict one another, and for a fragment that names something else.
    """
    fragment = _FRAGMENT.search(url)
    plain = url[: fragment.start()] if fragment else url
    in_fragment, unknown = _options(fragment[1] if fragment else "")
    is_server = url.partition("://")[0].lower().partition("+")[0] in SERVERS
    if unknown or (is_server and "#" in plain.rpartition("@")[2]):
        raise UnknownScheme(
            f"{without_password(url)} has an unknown fragment: #{unknown[0] if unknown else plain.rpartition('#')[2]}.",
            hint="Only #table=NAME is understood after a #; one that belongs to a name is written %23.",
        )
    rest, question, query = plain.partition("?")
    named, others = _options(query)
    names = list(dict.fromkeys([*named, *in_fragment, *([] if table_name is None else [table_name])]))
    if len(names) > 1:
        raise UnknownScheme(
            f"{without_password(url)} and its table_name name several tables: {', '.join(map(repr, names))}.",
            hint="Name one table, in one place.",
        )
    return rest + question * bool(others) + "&".join(others), names[0] if names else None


def refuse_options(url: str, *, after: str = "?") -> None:
    """Raise `UnknownScheme` if there is anything behind the ? (and the like) of a URL of which nothing is understood.

    What names a table was taken out of it before, where a table can be named.
    """
    place = min((position for sign in after if (position := url.find(sign)) >= 0), default=-1)
    if place < 0 or not url[place + 1 :]:
        return
    from difflib import get_close_matches  # only a mistake pays for it

    name = url[place + 1 :].partition("=")[0]
    scheme = url.partition(":")[0]
    raise UnknownScheme(
        f"{without_password(url)} has an option that a {scheme}: store does not know: {name!r}.",
        hint=_INSTEAD.get(name.lower()) or "Options such as read_only and timeout are arguments of make_store."
        + (f" The table is named by #table=NAME; is {name!r} mistyped?" if get_close_matches(name, ["table"]) else ""),
    )  # fmt: skip


def with_table(url: str, table_name: str | None) -> str:
    """The URL, naming that table; as it is, if it does so already or none is given."""
    named = table_name is None or split_table(url, None)[1] is not None
    return url if named else f"{url}#table={table_name}"


def without_password(url: str) -> str:
    """The URL with `***` for the password, and for what else in it is secret."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def open_server(
    url: str,
    table_name: str | None,
    *,
    new_key: Callable[[], int],
    create: bool,
    read_only: bool,
    timeout: float,
    columns: Mapping[str, Any],
) -> Backend:
    """The backend on the server that `url` names (without its table; see `split_table`).

    Raises `DriverMissing`, `UnknownScheme`, and what `ServerBackend` raises.
    """
    if "://" not in url:
        raise UnknownScheme(f"{without_password(url)} names no database.", hint=_FORM)
    scheme, _, driver = url.partition("://")[0].lower().partition("+")
    kind = _KINDS[scheme]
    driver = driver or next(iter(kind.drivers))
    if driver not in kind.drivers:
        raise UnknownScheme(
            f"perdure does not talk to {scheme} through {driver!r}.",
            hint=f"Write {scheme}:// alone, or one of: {', '.join(f'{scheme}+{each}://' for each in kind.drivers)}.",
        )
    for package in ("sqlalchemy", kind.drivers[driver]):
        if find_spec(package) is None:
            raise DriverMissing(
                f"A store at {scheme}:// needs the package {package!r}, which is not installed.",
                hint=f"Install it with: pip install 'perdure[{kind.extra}]'.",
            )
    return _opened(kind, f"{scheme}+{driver}", url, table_name, new_key, create, read_only, timeout, columns)


def _opened(kind: _Kind, drivername: str, url: str, table_name: str | None, *options: Any) -> Backend:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    from perdure.backends.server.schema import name_of_tables

    name = name_of_tables(table_name)
    try:
        parsed = make_url(url).set(drivername=drivername)
    except (ArgumentError, ValueError) as error:
        raise UnknownScheme(
            f"{without_password(url)} cannot be read as the URL of a database.",
            hint="Write scheme://user:password@host:port/database, with %40 for an @ in the password, %2F for a slash.",
        ) from error
    if parsed.host and "@" in parsed.host:
        raise UnknownScheme(
            f"{without_password(url)} has two @ in front of its host.", hint="Write %40 for an @ in the password."
        )
    if not parsed.database:
        raise UnknownScheme(f"{without_password(url)} names no database.", hint=_FORM)
    if parsed.port is not None and parsed.port > _HIGHEST_PORT:
        raise UnknownScheme(f"{without_password(url)} names a port above {_HIGHEST_PORT}.", hint=_FORM)
    place = f"{without_password(url).partition('?')[0]}#table={name}"
    new_key, create, read_only, timeout, columns = options
    backend_class = getattr(import_module(kind.module), kind.class_name)
    backend: Backend = backend_class(
        parsed,
        name,
        place=place,
        new_key=new_key,
        create=create,
        read_only=read_only,
        timeout=timeout,
        columns=columns,
    )
    return backend


def _options(query: str) -> tuple[list[str], list[str]]:
    """The tables that a query names, and its other parts."""
    parts = [part for part in query.split("&") if part]
    named = [part.partition("=")[2] for part in parts if part.partition("=")[0] == "table"]
    return named, [part for part in parts if part.partition("=")[0] != "table"]
