"""How a system is kept: what `prevalence.open` was told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Literal, NamedTuple

from perdure.clock import Clock, SystemClock
from perdure.errors import InvalidArgument
from perdure.prevalence.journal import FILE_BYTES, STEP

Keep = int | timedelta | None


class Every(NamedTuple):
    """A sync every so many seconds; what came after the last one may be lost with the power."""

    seconds: float


Durability = Literal["always", "none"] | Every


def every(milliseconds: float) -> Every:
    """A durability for `prevalence.open`: a sync each so many milliseconds, for which no command waits."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)) or not milliseconds > 0:
        raise InvalidArgument(f"every() takes a number of milliseconds, not {milliseconds!r:.60}.", hint="every(100)")
    return Every(milliseconds / 1000)


class Serve(NamedTuple):
    """How the journal is served."""

    address: str
    sync: bool = False
    away: Literal["refuse", "alone"] = "refuse"
    patience: float = 10.0  # seconds to wait for a standby


class Settings(NamedTuple):
    """What the opener of a system has chosen."""

    durability: Durability = "always"
    snapshot_commands: int | None = 200_000  # after so many commands a snapshot is made
    snapshot_bytes: int | None = 256 << 20  # after so many bytes of journal
    snapshot_recovery: float | None = 30.0  # when replaying the journal would take so many seconds
    keep: Keep = 2  # snapshots: so many, those of that time, or all
    food_taster: bool = False
    time_limit: float | None = None  # seconds for one command
    code: Literal["recorded", "off"] = "recorded"
    compress: bool = False
    encrypt: bool | None = None  # None: as the system is
    how: Literal["fork", "here"] | None = None  # snapshots are made; None: as is safe here
    clock: Clock = SystemClock()
    clock_tolerance: float = 60.0  # seconds by which the clock may be behind; time stands still meanwhile
    progress: Callable[[int, int], None] | None = None
    freeze: bool = True
    serve: Serve | None = None  # the journal to standbys
    step: int = STEP
    file_bytes: int = FILE_BYTES


def checked(settings: Settings) -> Settings:
    """The settings; raises `InvalidArgument` for what is none."""
    durability = settings.durability
    if not isinstance(durability, Every) and durability not in ("always", "none"):
        raise InvalidArgument(
            f"durability is 'always', 'none' or prevalence.every(milliseconds), not {durability!r:.60}.",
            hint="Only with 'always' is a command that was answered safe from a loss of power.",
        )
    keep = settings.keep
    if keep is not None and not isinstance(keep, timedelta) and not (_is_number(keep, int) and keep >= 1):
        raise InvalidArgument(f"keep is a number of snapshots, a timedelta or None, not {keep!r:.60}.", hint="keep=2")
    for name in ("time_limit", "snapshot_commands", "snapshot_bytes", "snapshot_recovery"):
        value = getattr(settings, name)
        kinds = (int,) if name in ("snapshot_commands", "snapshot_bytes") else (int, float)
        if value is not None and not (_is_number(value, *kinds) and value > 0):
            raise InvalidArgument(f"{name} is a number above zero, or None, not {value!r:.60}.")
    if not (_is_number(settings.clock_tolerance, int, float) and settings.clock_tolerance >= 0):
        raise InvalidArgument(f"clock_tolerance is a number of seconds, not {settings.clock_tolerance!r:.60}.")
    if settings.code not in ("recorded", "off"):
        raise InvalidArgument(f"code is 'recorded' or 'off', not {settings.code!r:.60}.")
    return settings


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
