"""How much of everything perdure's own reader takes, and the errors that it refuses with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from perdure.errors import CorruptRecord, InvalidArgument, UntrustedRecord


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a record or pickle without a good seal may take; more of it is `UntrustedRecord`. The defaults are large.

    `bytes` counts a pickle, `unpacked` what a compressed payload becomes, which from a MiB on is at most `ratio` times
    what is stored. `opcodes` and `objects` count steps and what is made (containers, and objects of classes), `memo`
    entries to come back to. `depth` is that of containers in containers, `printed` how many values they show when they
    are printed, `circles` how often circles of them may cross. `string` is in bytes, `integer` in bits, `name` in
    characters.
    """

    bytes: int = 1 << 30
    unpacked: int = 1 << 30
    ratio: int = 1000
    opcodes: int = 100_000_000
    objects: int = 20_000_000
    memo: int = 20_000_000
    depth: int = 10_000
    printed: int = 50_000_000
    circles: int = 30
    string: int = 1 << 30
    integer: int = 1 << 20
    name: int = 500

    @property
    def unpacking(self) -> tuple[int, int]:
        """What a compressed payload may become: so many bytes, and so many times what is stored."""
        return self.unpacked, self.ratio

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 0:
                raise InvalidArgument(
                    f"Limits: {field.name} is a whole number, not {value!r:.40}.", hint="Leave it out for the default."
                )


LIMITS = Limits()

HINT = (
    "If its class is yours, import the module that defines it, and give the class to perdure.register_class; if you"
    " know where the bytes come from, load them with trust='all'."
)
LIMIT_HINT = "If that much is expected, give limits=perdure.Limits(…) to perdure.loads, or to make_store."


def untrusted(reason: str, position: int, opcode: str, hint: str = HINT) -> UntrustedRecord:
    """The error for what the reader does not build."""
    return UntrustedRecord(
        f"Without a good seal, {opcode} at position {position} is refused: {reason}.",
        hint=hint,
        position=position,
        opcode=opcode,
        reason=reason,
    )


def corrupt(reason: str, position: int) -> CorruptRecord:
    """The error for what is no whole pickle."""
    return CorruptRecord(f"This is no whole pickle: {reason} (position {position}).", position=position)


class Refused(Exception):
    """Something in a pickle that is not built; the machine says where."""

    def __init__(self, reason: str, hint: str = HINT):
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Wrong(Exception):
    """Something in a pickle that cannot be right; the machine says where."""
