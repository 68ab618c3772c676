"""Changes names of classes and modules in pickles, of any protocol, without importing or making anything.

- What is changed is where a name is used to look something up; a text that is data, too, stays what it is, and the
  look-up gets a text of its own.
- Nothing is added to the memo and nothing taken from it, so that its numbers stay right; frames get their new lengths.
- Where it cannot be certain, it raises `CannotRename` with `.position` and `.opcode`, and `CorruptRecord` for what is
  no pickle; nothing else comes out.
- The result is followed once more: it must do what the pickle does, event by event, but for the names.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from perdure.errors import CannotRename, CorruptRecord
from perdure.pickling.machine import Machine
from perdure.pickling.nested import refuse_nested
from perdure.pickling.opcodes import Op, Opcodes, read_opcodes
from perdure.pickling.renames import Name, Renames, python2_name
from perdure.pickling.slots import Followed, Kind, Lookup, Slot, plain_value, text_of

Edits = dict[int, bytes]  # by the place of an opcode: what stands there instead
NameTexts = Callable[[Followed], Iterable[tuple[Slot, str]]]


class Rewriting(NamedTuple):
    """The bytes after the renames; how often each name was changed; where large pieces belong, in their order."""

    data: bytes
    changed: Counter[tuple[str, str]]
    holes: tuple[int, ...] = ()


class _Told:
    """Counts what was followed, for a progress bar."""

    def __init__(self, progress: Callable[[int, int], None], of: int):
        self.progress, self.of, self.done = progress, of, 0

    def __call__(self, count: int) -> None:
        self.done = min(self.done + count, self.of)
        self.progress(self.done, self.of)


class _Plan(NamedTuple):
    edits: list[Edits]
    changed: Counter[tuple[str, str]]


def rewritten(
    data: bytes,
    renames: Renames,
    *,
    keeps_memo: bool | None = None,
    holes: Mapping[int, int] | None = None,
    name_texts: NameTexts | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rewriting:
    """The pickles in `data`, one after another, with the names changed.

    `keeps_memo` says whether they were written, and are read, with one memo; None: it must not matter. `holes` has the
    lengths of contents that are kept elsewhere, by their places. `name_texts` gives texts in a pickle that are names
    by themselves, and what they are to be. `progress` is told opcodes: how many were followed, of how many. Raises
    `CannotRename`, `CorruptRecord`.
    """
    codes = read_pickles(data, holes)
    ways = (False, True) if keeps_memo is None and len(codes) > 1 else (bool(keeps_memo),)
    tell = None if progress is None else _Told(progress, 2 * len(ways) * sum(len(code.ops) for code in codes))
    followed = {way: _follow(codes, renames, way, tell) for way in ways}
    sound = {way: found for way, found in followed.items() if not isinstance(found, CorruptRecord)}
    if not sound:
        raise next(found for found in followed.values() if isinstance(found, CorruptRecord))
    runs = [_or_raise(found) for found in sound.values()]
    refuse_nested(runs[0], renames)
    plans = [_plan(each, name_texts) for each in runs]
    if any(plan.edits != plans[0].edits for plan in plans):
        raise CannotRename("The pickles may have been written with one memo or with several, and that matters here.")
    edits = plans[0].edits
    if not any(edits):
        return Rewriting(data, Counter(), tuple(holes or ()))
    result, moved = _carried_out(codes, edits)
    new_holes = {moved(place): length for place, length in (holes or {}).items()}
    _verify(result, codes, edits, sound, new_holes, tell)
    return Rewriting(result, plans[0].changed, tuple(new_holes))


def read_pickles(data: bytes, holes: Mapping[int, int] | None = None) -> list[Opcodes]:
    """The pickles in `data`; raises `CorruptRecord` where it holds none, or something else too."""
    codes = [read_opcodes(data, 0, holes)]
    while codes[-1].end < len(data):
        codes.append(read_opcodes(data, codes[-1].end, holes))
    return codes


def _follow(
    codes: Sequence[Opcodes], renames: Renames, keeps_memo: bool, tell: Callable[[int], None] | None
) -> list[Followed] | CorruptRecord | CannotRename:
    machine = Machine(renames, tell)
    found: list[Followed] = []
    try:
        for code in codes:
            if not keeps_memo:
                machine.memo = {}
            found.append(machine.run(code))
    except (CorruptRecord, CannotRename) as error:
        return error
    return found


def _or_raise(found: list[Followed] | CannotRename | CorruptRecord) -> list[Followed]:
    if isinstance(found, list):
        return found
    raise found


# -- what is to be done ----------------------------------------------------------------------------------------------


def _plan(runs: list[Followed], name_texts: NameTexts | None) -> _Plan:
    places = {id(run.code): place for place, run in enumerate(runs)}
    edits: list[Edits] = [{} for _ in runs]
    changed: Counter[tuple[str, str]] = Counter()
    dropped = {slot for run in runs for slot in run.dropped if not slot.uses}
    held, replaced = _held(runs, dropped)
    for place, run in enumerate(runs):
        for slot, text in name_texts(run) if name_texts is not None else ():
            _name_text(slot, text, changed)
            edits[places[id(slot.code)]][slot.op] = text_bytes(text, slot)
        for lookup in run.lookups:
            if (id(run.code), lookup.op) in held:
                continue
            if lookup.old != lookup.new:
                changed[lookup.old, lookup.new] += 1
            for slot, text in lookup.texts:
                if _in_place(slot) and text_of(slot) != text:
                    edits[places[id(slot.code)]][slot.op] = text_bytes(text, slot)
            edit = _edit(lookup, run.code, lookup in replaced)
            if edit is not None:
                edits[place][lookup.op] = edit
    for slot in dropped:
        edits[places[id(slot.code)]][slot.op] = _DROPPING[slot.code.ops[slot.op].code]
    return _Plan(edits, changed)


def _held(runs: list[Followed], dropped: set[Slot]) -> tuple[set[tuple[int, int]], list[Lookup]]:
    """Look-ups that stay as they are since only what stays is taken from them; and what must be made anew instead."""
    held: set[tuple[int, int]] = set()
    replaced: list[Lookup] = []
    for run in runs:
        for lookup, classes in run.kept:
            if any(slot.uses or slot in dropped for slot in classes):
                replaced.append(lookup)
            else:
                held.update((id(slot.code), slot.op) for slot in classes)
    return held, replaced


def _name_text(slot: Slot, text: str, changed: Counter[tuple[str, str]]) -> None:
    """A text that is a name by itself: it must be nothing else as well."""
    old = text_of(slot)
    if slot.uses != 1 or slot.wanted or old is None:
        op = slot.code.ops[slot.op]
        raise CannotRename(
            f"{op.name} at position {op.start} is the text {text_of(slot)!r}, which is needed elsewhere as well.",
            position=op.start,
            opcode=op.name,
        )
    slot.text = text
    changed[old, text] += 1


def _in_place(slot: Slot) -> bool:
    """Whether the text is nothing but a name, and the same one wherever it is used."""
    return not slot.uses and len(slot.wanted) == 1


def _edit(lookup: Lookup, code: Opcodes, is_replaced: bool) -> bytes | None:
    """What stands in the place of the opcode that uses a name; None where its operands are changed, or nothing is."""
    opcode = code.ops[lookup.op].code
    module, qualname = lookup.spelled
    nested = "." in qualname and lookup.protocol < 4
    if opcode == _STACK_GLOBAL:
        if nested and lookup.old != lookup.new:
            return _TWO_POPS + class_bytes(lookup.spelled, lookup.protocol)
        if all(text == (text_of(slot) if not _in_place(slot) else text) for slot, text in lookup.texts):
            return None
        texts = (literal(text, lookup.protocol) for text in lookup.spelled)
        return _TWO_POPS + b"".join(texts) + pickle.STACK_GLOBAL
    if lookup.old == lookup.new and not is_replaced:
        return None
    if opcode == _GLOBAL:
        return class_bytes(lookup.spelled, lookup.protocol)
    if opcode == _INST:
        return pickle.INST + f"{module}\n{qualname}\n".encode()
    if not lookup.texts:  # `getattr` of a class
        return _TWO_POPS + class_bytes(lookup.spelled, lookup.protocol)
    if all(map(_in_place, (slot for slot, _ in lookup.texts))):
        return None
    args = [_argument(slot, text, code.ops[lookup.op], lookup.protocol) for slot, text in lookup.args]
    return pickle.POP + _tuple_bytes(args, lookup.protocol) + pickle.REDUCE


def _argument(slot: Slot, text: str | None, op: Op, protocol: int) -> bytes:
    """Opcodes that push an argument of a call once more, `text` in its place where that is another one."""
    if slot.kind is Kind.TEXT:
        return literal(text_of(slot) or "" if text is None else text, protocol)
    if slot.kind in (Kind.CLASS, Kind.NAMED) and not slot.parts:
        spelled = Renames().spelled(slot.new, protocol)
        if spelled is not None:
            return class_bytes(spelled, protocol)
    if plain_value(slot) is None:
        raise CannotRename(
            f"{op.name} at position {op.start} takes a name that is data as well, beside what cannot be written again.",
            position=op.start,
            opcode=op.name,
        )
    if slot.kind is Kind.TUPLE:
        return _tuple_bytes([_argument(part, None, op, protocol) for part in slot.parts], protocol)
    made = slot.code.ops[slot.op]
    return slot.code.data[made.start : made.end]


# -- bytes -----------------------------------------------------------------------------------------------------------


def class_bytes(spelled: Name, protocol: int) -> bytes:
    """Opcodes that push a class: below protocol 4, what is nested is looked up in what it is nested in."""
    module, qualname = spelled
    outer, _, attribute = qualname.rpartition(".")
    if not outer or protocol >= 4:
        return pickle.GLOBAL + f"{module}\n{qualname}\n".encode()
    getattr_module = python2_name(("builtins", "getattr"))[0] if protocol < 3 else "builtins"
    arguments = [class_bytes((module, outer), protocol), literal(attribute, protocol)]
    return pickle.GLOBAL + f"{getattr_module}\ngetattr\n".encode() + _tuple_bytes(arguments, protocol) + pickle.REDUCE


def _tuple_bytes(items: Sequence[bytes], protocol: int) -> bytes:
    if not items:
        return pickle.EMPTY_TUPLE if protocol else pickle.MARK + pickle.TUPLE
    if protocol < 2 or len(items) > 2:
        return pickle.MARK + b"".join(items) + pickle.TUPLE
    return b"".join(items) + (pickle.TUPLE1 if len(items) == 1 else pickle.TUPLE2)


def literal(text: str, protocol: int) -> bytes:
    """The opcode that pushes a text, as picklers of that protocol write it."""
    if protocol < 1:
        escaped = text.replace("\\", "\\u005c").replace("\n", "\\u000a").replace("\r", "\\u000d")
        return pickle.UNICODE + escaped.encode("raw_unicode_escape") + b"\n"
    encoded = text.encode("utf-8", "surrogatepass")
    if protocol >= 4 and len(encoded) < 256:
        return pickle.SHORT_BINUNICODE + bytes([len(encoded)]) + encoded
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def text_bytes(text: str, slot: Slot) -> bytes:
    """The same in the place of a text that is there."""
    opcode = slot.code.ops[slot.op].code
    protocol = {_SHORT_TEXT: 4, _LINE_TEXT: 0}.get(opcode, 1)
    return literal(text, protocol)


def _carried_out(codes: Sequence[Opcodes], edits: Sequence[Edits]) -> tuple[bytes, Callable[[int], int]]:
    """The new bytes, and where a place of the old ones is in them."""
    parts: list[bytes] = []
    shifts: list[tuple[int, int]] = []  # from which place on, by how much
    shift = 0
    for code, wanted in zip(codes, edits, strict=True):
        ops, data = code.ops, code.data
        for frame in code.frames:
            first, behind = ops[frame.op], ops[frame.end - 1].end
            growth = sum(
                len(edit) - (ops[place].end - ops[place].start)
                for place, edit in wanted.items()
                if frame.op < place < frame.end
            )
            if growth:
                wanted[frame.op] = pickle.FRAME + (behind - first.end + growth).to_bytes(8, "little")
        position = code.start
        for place in sorted(wanted):
            op = ops[place]
            parts += data[position : op.start], wanted[place]
            position = op.end
            shift += len(wanted[place]) - (op.end - op.start)
            shifts.append((op.end, shift))
        parts.append(data[position : code.end])

    def moved(place: int) -> int:
        return place + next((shift for start, shift in reversed(shifts) if start <= place), 0)

    return b"".join(parts), moved


# -- the same once more ----------------------------------------------------------------------------------------------


def _verify(
    result: bytes,
    codes: Sequence[Opcodes],
    edits: Sequence[Edits],
    sound: Mapping[bool, object],
    holes: Mapping[int, int],
    tell: Callable[[int], None] | None,
) -> None:
    """Raise `CannotRename` unless the result does what the pickles do, but for the names.

    Where each opcode has one in its place, these are compared; else what they do.
    """
    after = read_pickles(result, holes)
    if len(after) == len(codes) and all(map(_is_alike, codes, after, edits)):
        return
    for way, before in sound.items():
        found = _follow(after, Renames(), way, tell)
        if not isinstance(before, list) or not isinstance(found, list) or trace(before) != trace(found):
            raise CannotRename("What the renames make of the pickle does not do the same: this is a bug of perdure.")


def _is_alike(before: Opcodes, after: Opcodes, edits: Edits) -> bool:
    """Whether the opcodes are the same, but for classes that they name in lines, and the lengths of frames."""
    if len(before.ops) != len(after.ops):
        return False
    old, new = before.data, after.data
    for place, (was, now) in enumerate(zip(before.ops, after.ops, strict=True)):
        edit = edits.get(place)
        if edit is None:
            if was[0] != now[0] or old[was[1] : was[3]] != new[now[1] : now[3]]:
                return False
        elif was[0] not in _SAME_KIND or was[0] != now[0] or new[now[1] : now[3]] != edit:
            return False  # a text that was changed might be data, too: that is seen by what is done with it
    return True


def trace(runs: Iterable[Followed]) -> list[tuple[object, ...]]:
    """What pickles do, as plain values: the new names, and each other value by its number once it was met."""
    numbers: dict[Slot, int] = {}
    lines: list[tuple[object, ...]] = []
    for run in runs:
        for op, takes, makes, told in run.events:
            line: list[object] = [op.code, told]
            waiting = list(reversed(takes))
            while waiting:
                slot = waiting.pop()
                if slot.kind is Kind.CLASS:
                    line.append(slot.new)
                elif slot in numbers:
                    line.append(numbers[slot])
                else:
                    numbers[slot] = len(numbers)
                    line.append(_described(slot))
                    waiting += reversed(slot.parts)
            if makes is not None:
                numbers[makes] = len(numbers)
            lines.append(tuple(line))
    return lines


def _described(slot: Slot) -> tuple[object, ...]:
    op = slot.code.ops[slot.op]
    if slot.kind is Kind.TUPLE:
        return "tuple", len(slot.parts)
    if slot.kind is Kind.TEXT:
        text = text_of(slot) if slot.text is None else slot.text
        if text is not None:
            return "text", text
    return op.code, slot.code.data[op.operand : op.end], op.hole


_GLOBAL, _STACK_GLOBAL, _INST = pickle.GLOBAL[0], pickle.STACK_GLOBAL[0], pickle.INST[0]
_SHORT_TEXT, _LINE_TEXT = pickle.SHORT_BINUNICODE[0], pickle.UNICODE[0]
_SAME_KIND = {_GLOBAL, _INST, pickle.FRAME[0]}  # what stands in the place of one of these must be one, too
_TWO_POPS = pickle.POP * 2
_DROPPING = {_GLOBAL: pickle.NONE, _STACK_GLOBAL: _TWO_POPS + pickle.NONE, pickle.REDUCE[0]: pickle.POP}
