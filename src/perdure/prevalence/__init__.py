"""Prevalence: a whole system of objects in memory, a journal of commands before it, snapshots beside it.

    from perdure import prevalence
    from perdure.prevalence import command

What the names do stands with each of them; `docs/guide/prevalence.md` tells when to use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.prevalence.commands import command
from perdure.prevalence.following import Follower
from perdure.prevalence.moments import now, random, random_source, uuid4
from perdure.prevalence.opening import open, standby
from perdure.prevalence.settings import every
from perdure.prevalence.standby import Standby
from perdure.prevalence.system import System
from perdure.prevalence.taking import Taken

__all__ = [
    "Follower", "Standby", "Suspect", "System", "Taken", "check", "command", "every", "now", "open", "random",
    "random_source", "standby", "uuid4",
]  # fmt: skip

if TYPE_CHECKING:
    from perdure.prevalence.determinism import Suspect, check


def __getattr__(name: str) -> Any:
    """What looks at sources is imported when it is first used."""
    if name in ("Suspect", "check"):
        from perdure.prevalence import determinism

        return getattr(determinism, name)
    raise AttributeError(f"module 'perdure.prevalence' has no attribute {name!r}")
