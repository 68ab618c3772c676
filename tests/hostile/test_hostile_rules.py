"""The rules of the own reader and of seals are needed: with any of them switched off, what it refuses comes in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import victim
from routes import START, called, framed, made, name, state, text

import perdure
from perdure import Limits, PerdureError
from perdure.pickling.own import bounds, building, filling, machine, stack
from perdure.pickling.own.building import Building
from perdure.pickling.own.machine import Machine
from perdure.records import frame
from perdure.records.seal import Key

Patch = pytest.MonkeyPatch
KEY = Key(bytes(range(32)))


def set_to(where: Any, attribute: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(where, attribute, value)


def everything_is_registered(patch: Patch) -> None:
    patch.setattr(building, "class_named", lambda called: getattr(victim, called.partition(":")[2], None))


def everything_may_be_filled(patch: Patch) -> None:
    patch.setattr(Building, "target", lambda self, obj: obj)
    patch.setattr(Machine, "__init__", with_target(Machine.__init__))


def with_target(begin: Callable[..., None]) -> Callable[..., None]:
    def begun(self: Machine, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.target = lambda obj: obj  # type: ignore[method-assign]

    return begun


def everything_gets_a_state(patch: Patch) -> None:
    def build(self: Building, obj: Any, told: Any, real: Any = Building.build) -> Any:
        self._shells[id(obj)] = obj
        return real(self, obj, told)

    patch.setattr(Building, "build", build)


def constructors_are_values(patch: Patch) -> None:
    patch.setattr(stack, "OWED", frozenset())
    patch.setattr(filling, "OWED", frozenset())


def unlimited(where: Any, *names: str) -> Callable[[Patch], None]:
    def drop(patch: Patch) -> None:
        for each in names:
            patch.setattr(where, each, 1 << 60)

    return drop


SAME_HASH = b"".join(
    b"\x8a\x0a" + (number * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N" for number in range(1, 150)
)
FRAIL = START + name("collections", "deque") + b"\x94)R" + b"h\x00)R" * 700 + b"N" + b"a" * 701 + b"."
COPIES = START + b"C\xff" + bytes(255) + b"\x940" + name("builtins", "bytearray") + b"\x940]("
UNFOLDING = b"]\x94" + b"".join(b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"e\x94" for n in range(18)) + b"."
RULES: dict[str, tuple[Callable[[Patch], None], bytes]] = {
    "classes are registered": (everything_is_registered, START + made("Trap") + b"."),
    "constructors are no values": (constructors_are_values, START + b"]" + name("builtins", "getattr") + b"a."),
    "only what is made here is filled": (
        everything_may_be_filled,
        START + called("array", "array", text("b"), b"]") + b"(K\x01e.",
    ),
    "only what is made here gets a state": (
        everything_gets_a_state,
        START + made("Point", state(x=b"N")) + state(y=b"N") + b"b.",
    ),
    "names of Python's own are no attributes": (
        set_to(building, "check_names", lambda told: None),
        START + made("Point", state(__class__=b"N")) + b".",
    ),
    "nothing follows the end": (set_to(Machine, "require_end", lambda self: None), b"N.N."),
    "hashes are counted": (unlimited(bounds, "MOST_OF_ONE_HASH"), b"\x80\x02}(" + SAME_HASH + b"u."),
    "destructors are counted": (unlimited(bounds, "MOST_FRAIL"), FRAIL),
    "copies are counted": (unlimited(stack, "FREE_COPIES"), COPIES + b"h\x01h\x00\x85R" * 6000 + b"e."),
    "what is shown is counted": (set_to(machine, "check_result", lambda *told: None), START + UNFOLDING),
    "seals are verified": (set_to(Key, "verifies", lambda self, data, tag: True), framed(START + made("Trap") + b".")),
    "checksums are compared": (
        set_to(frame, "crc32", lambda data: int.from_bytes(bytes(4), "little")),
        framed(b"N.")[:-20] + bytes(20),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_without_this_rule_what_is_refused_comes_in(rule: str, monkeypatch: Patch) -> None:
    switch_off, data = RULES[rule]
    limits = Limits(printed=100_000, depth=5000)
    with pytest.raises(PerdureError):
        perdure.loads(data, key=KEY, limits=limits)
    switch_off(monkeypatch)
    with suppress(perdure.CannotLoad):  # a class that is not made for it
        perdure.loads(data, key=KEY, limits=limits)
