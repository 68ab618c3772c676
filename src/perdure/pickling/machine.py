"""Follows the opcodes of a pickle with a stack of what is known of each value, and carries nothing out.

- Names are found where they are used: at the opcode that looks up a class, by what then stands on the stack; never by
  looking backwards.
- What is known of a value: that it is a text which stands in the pickle, the class of a name, or a tuple of such; of
  all others only that they are one and the same wherever they are met.
- What a pickle does is the list of its *events*: whatever makes, fills or calls something, with the values it takes.
  To push, to pop, to note in the memo, and to make a tuple are none.
- A name that cannot be known raises `CannotRename`, what is no pickle `CorruptRecord`; nothing else comes out.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping

from perdure.errors import CannotRename
from perdure.pickling.calls import GETATTR, MEMBER, NAMED, TAKES_MODULE, TAKES_NAME, WITH_MORE, name_in
from perdure.pickling.opcodes import Op, Opcodes, corrupt
from perdure.pickling.renames import Name, Renames, python3_name
from perdure.pickling.slots import NO_NAME, Event, Followed, Kind, Lookup, Slot, plain_value, text_of, use

FREE_MEMO = 1000
STEP = 50_000  # opcodes after which it is told how far it is
HIGHEST_PROTOCOL = 5


Run = list[Slot]


class Machine:
    """Goes through pickles; the memo is kept from one to the next until somebody clears it."""

    def __init__(self, renames: Renames, tell: Callable[[int], None] | None = None):
        self.renames = renames
        self.tell = tell  # called with the number of opcodes that were followed, now and then
        self.memo: dict[int, Slot] = {}

    def run(self, code: Opcodes) -> Followed:
        """Follow one pickle to its end."""
        self.data, self.code = code.data, code
        self.events: list[Event] = []
        self.lookups: list[Lookup] = []
        self.contents: list[Op] = []
        self.dropped: list[Slot] = []
        self.kept: list[tuple[Lookup, list[Slot]]] = []
        self.stack: Run = []
        self.marks: list[Run] = []
        self.protocol = 0
        actions = _ACTIONS
        for start in range(0, len(code.ops), STEP):
            some = code.ops[start : start + STEP]
            for place, op in enumerate(some, start):
                self.place, self.op = place, op
                actions[op.code](self)
            if self.tell is not None:
                self.tell(len(some))
        top = self.events[-1].takes[0]
        return Followed(code, self.events, self.lookups, self.contents, self.dropped, self.kept, top)

    # -- what is there -------------------------------------------------------------------------------------

    def operand(self) -> bytes:
        return self.data[self.op.operand : self.op.end]

    def number(self) -> int:
        """The operand as a number without sign; a line of digits for the opcodes of protocol 0."""
        if self.op.code in _LINES:
            line = self.operand()[:-1]
            if not line.isdigit() or len(line) > 10:
                raise corrupt(self.op.start, "the index of a memo entry is no number")
            return int(line)
        return int.from_bytes(self.operand(), "little")

    def refuse(self, reason: str) -> CannotRename:
        op = self.op
        return CannotRename(f"{op.name} at position {op.start} {reason}.", position=op.start, opcode=op.name)

    # -- the stack -----------------------------------------------------------------------------------------

    def pop(self) -> Slot:
        if not self.stack:
            raise corrupt(self.op.start, "its stack is empty")
        return self.stack.pop()

    def peek(self) -> Slot:
        if not self.stack:
            raise corrupt(self.op.start, "its stack is empty")
        return self.stack[-1]

    def pop_mark(self) -> Run:
        if not self.marks:
            raise corrupt(self.op.start, "a mark is missing")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, kind: Kind = Kind.OTHER, name: Name = NO_NAME, parts: tuple[Slot, ...] = ()) -> Slot:
        made = Slot(self.code, self.place, kind, name, parts)
        self.stack.append(made)
        return made

    def event(self, *takes: Slot, makes: bool = False, told: object = None) -> None:
        """Note what is done with values; what it makes goes on the stack."""
        for slot in takes:
            use(slot)
        self.events.append(Event(self.op, takes, self.push() if makes else None, told))

    # -- literals, stack and memo --------------------------------------------------------------------------

    def other(self) -> None:
        self.push()

    def text(self) -> None:
        self.contents.append(self.op)
        self.push(Kind.TEXT)

    def content(self) -> None:
        self.contents.append(self.op)
        self.push()

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def drop_to_mark(self) -> None:
        self.pop_mark()

    def duplicate(self) -> None:
        self.stack.append(self.peek())

    def put(self) -> None:
        index = self.number()
        if index > self.op.end + FREE_MEMO:
            raise corrupt(self.op.start, f"the memo index {index} is out of all proportion")
        self.memo[index] = self.peek()

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.peek()

    def get(self) -> None:
        found = self.memo.get(self.number())
        if found is None:
            raise corrupt(self.op.start, f"nothing was put at memo index {self.number()}")
        self.stack.append(found)

    def set_protocol(self) -> None:
        self.protocol = self.data[self.op.operand]
        if self.protocol > HIGHEST_PROTOCOL:
            raise corrupt(self.op.start, f"{self.protocol} is no known protocol")
        self.event(told=self.protocol)

    def nothing(self) -> None:
        """FRAME: how the bytes are grouped."""

    def stop(self) -> None:
        self.event(self.pop())

    # -- containers ----------------------------------------------------------------------------------------

    def tuple_to_mark(self) -> None:
        self.push(Kind.TUPLE, parts=tuple(self.pop_mark()))

    def tuple_of(self) -> None:
        count = _TUPLE_SIZES[self.op.code]
        if len(self.stack) < count:
            raise corrupt(self.op.start, "its stack is empty")
        parts = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.push(Kind.TUPLE, parts=parts)

    def made_of_mark(self) -> None:
        self.event(*self.pop_mark(), makes=True)

    def fill_one(self) -> None:
        value = self.pop()
        self.event(self.peek(), value)

    def fill_pair(self) -> None:
        value = self.pop()
        key = self.pop()
        self.event(self.peek(), key, value)

    def fill_to_mark(self) -> None:
        items = self.pop_mark()
        self.event(self.peek(), *items)

    # -- names ---------------------------------------------------------------------------------------------

    def look_up_lines(self) -> None:
        found = self.push(Kind.CLASS)
        found.name, found.new = self.name_in_lines()

    def name_in_lines(self) -> tuple[Name, Name]:
        """The name in the opcode's two lines, now and then."""
        try:
            module, name, _ = self.operand().decode().split("\n")
        except UnicodeDecodeError as error:
            raise corrupt(self.op.start, "a name is no UTF-8") from error
        old, new = self.renamed((module, name))
        if new != old:
            self.note(old, new)
        return old, new

    def look_up_stack(self) -> None:
        slots = self.pop(), self.pop()
        name, module = (text_of(slot) if slot.kind is Kind.TEXT else None for slot in slots)
        if module is None or name is None:
            if any(slot.kind is not Kind.TEXT and slot.code.ops[slot.op].code not in _MAY_GIVE_TEXT for slot in slots):
                raise corrupt(self.op.start, "a name is no text")
            raise self.refuse("takes a name that does not stand in the pickle as a text")
        old, new = self.renamed((module, name))
        spelled = (module, name) if new == old else self.spelling(new)
        self.note(old, new, spelled, ((slots[1], spelled[0]), (slots[0], spelled[1])))
        found = self.push(Kind.CLASS)
        found.name, found.new = old, new

    def renamed(self, written: Name) -> tuple[Name, Name]:
        """What a name in the pickle means, and what it is to be; rules are met in Python 2's spelling too."""
        old = python3_name(written) if self.protocol < 3 else written
        new = self.renames.of(*old)
        if new == old != written:
            new = self.renames.of(*written)
            new = old if new == written else new
        return old, new

    def note(self, old: Name, new: Name, spelled: Name | None = None, texts: tuple[tuple[Slot, str], ...] = ()) -> None:
        for slot, text in texts:
            slot.want(text)
        spelled = spelled or self.spelling(new)
        self.lookups.append(Lookup(self.place, ":".join(old), ":".join(new), spelled, self.protocol, texts))

    def spelling(self, name: Name) -> Name:
        """The name as this pickle must spell it: what is nested is looked up in the class that it is in."""
        module, qualname = name
        outer, dot, inner = qualname.partition(".") if self.protocol < 4 else (qualname, "", "")
        found = self.renames.spelled((module, outer), self.protocol)
        if found is None:
            raise self.refuse(
                f"cannot name {module}:{qualname}: it would mean something else in protocol {self.protocol}"
            )
        return found[0], f"{found[1]}{dot}{inner}"

    def extension(self) -> None:
        raise self.refuse("names a class by an extension code, which only the program's own registry can tell")

    def instantiate_lines(self) -> None:
        items = self.pop_mark()
        cls = Slot(self.code, self.place, Kind.CLASS)
        cls.name, cls.new = self.name_in_lines()
        if "." in cls.new[1] and self.protocol < 4 and cls.new != cls.name:
            raise self.refuse(f"cannot name {':'.join(cls.new)}, which is nested in a class")
        self.event(cls, *items, makes=True)

    def instantiate_mark(self) -> None:
        items = self.pop_mark()
        if not items:
            raise corrupt(self.op.start, "its stack is empty")
        self.event(*items, makes=True)

    def instantiate(self) -> None:
        args = self.pop()
        self.event(self.pop(), args, makes=True)

    def instantiate_by_name(self) -> None:
        kwargs, args = self.pop(), self.pop()
        self.event(self.pop(), args, kwargs, makes=True)

    def reduce(self) -> None:
        args, function = self.pop(), self.pop()
        if function.kind is Kind.CLASS:
            if function.name == GETATTR:
                if self.attribute(function, args):
                    return
            elif function.name == MEMBER:
                if self.member(function, args):
                    return
            elif function.name in TAKES_NAME or function.name in TAKES_MODULE:
                self.named(function, args)
                return
        self.event(function, args, makes=True)

    def attribute(self, function: Slot, args: Slot) -> bool:
        """`getattr(…)`: of a class, it is how protocols below 4 name what is nested in it."""
        if args.kind is not Kind.TUPLE or len(args.parts) != 2:
            return False
        parent, attribute = args.parts
        if parent.kind is Kind.MODULE and self.renames.reaches_below(parent.name[0]):
            raise self.refuse(f"takes something from the module {parent.name[0]}, of which names change, by a call")
        if parent.kind is not Kind.CLASS:
            return False
        text = text_of(attribute) if attribute.kind is Kind.TEXT else None
        if text is None:
            if self.renames.reaches_below(*parent.name):
                raise self.refuse(f"takes an attribute of {':'.join(parent.name)} whose name is made up")
            return False
        old, derived = (parent.name[0], f"{parent.name[1]}.{text}"), (parent.new[0], f"{parent.new[1]}.{text}")
        new = self.renames.of(*old)
        if new == derived or parent.new != self.renames.of(*parent.name):  # the latter: by Python 2's name of it
            found = self.push(Kind.CLASS, parts=(function, args))
        else:
            self.note(old, new)
            if new == old:
                self.kept.append((self.lookups[-1], list(_classes_in(parent))))
            else:
                self.dropped += _classes_in(parent)
            found = self.push(Kind.CLASS)
        found.name, found.new = old, derived if found.parts else new
        return True

    def named(self, function: Slot, args: Slot) -> None:
        """A call with a name as its argument."""
        parts = args.parts if args.kind is Kind.TUPLE else ()
        text = text_of(parts[0]) if parts and parts[0].kind is Kind.TEXT else None
        if text is None:
            raise self.refuse(f"calls {':'.join(function.name)} with a name that is made up")
        is_module = function.name in TAKES_MODULE
        rename = self.renames.of_module if is_module else self.renames.of_text
        if rename(text) != text and len(parts) > 1 and function.name not in WITH_MORE:
            raise self.refuse(
                f"calls {':'.join(function.name)} with {text} and more, and {text} is to be {rename(text)}"
            )
        places = TAKES_NAME.get(function.name, (0,))
        told = []
        for part in [parts[place] for place in places if place < len(parts)]:
            name = text_of(part) if part.kind is Kind.TEXT else None
            if name is None:
                raise self.refuse(f"calls {':'.join(function.name)} with a name that is made up")
            told.append(rename(name))
            part.want(told[-1])
        names = [parts[place] for place in places if place < len(parts)]
        texts = tuple(zip(names, told, strict=True))
        given = tuple(
            (part, told[places.index(place)] if place in places else None) for place, part in enumerate(parts)
        )
        for part, new in texts:
            self.lookups.append(Lookup(self.place, text_of(part) or "", new, (new, ""), self.protocol, texts, given))
        rest = [part for place, part in enumerate(parts) if place not in places]
        self.event(function, *rest, makes=True, told=" ".join(told))
        made = self.stack[-1]
        if is_module:
            made.kind, made.name = Kind.MODULE, (text, "")
        else:
            made.name, made.new = name_in(text_of(names[-1]) or ""), name_in(told[-1])
            made.kind = Kind.NAMED if function.name == NAMED else made.kind

    def member(self, function: Slot, args: Slot) -> bool:
        """A member of an enumeration that is looked up by its class and its name."""
        cls, name, value = args.parts if len(args.parts) == 3 else (None, None, None)
        if cls is None or name is None or value is None or cls.name == NO_NAME:
            return False
        text = text_of(name) if name.kind is Kind.TEXT else None
        new = None if text is None else self.renames.of_member(cls.name, cls.new, text)
        if text is None or new is None:
            raise self.refuse(f"takes a member of {':'.join(cls.name)} that is made up, or would leave its class")
        name.want(new)
        old = f"{':'.join(cls.name)}.{text}"
        now = old if new == text else f"{':'.join(cls.new)}.{new}"
        told = (cls, None), (name, new), (value, None)
        self.lookups.append(Lookup(self.place, old, now, (new, ""), self.protocol, ((name, new),), told))
        plain = plain_value(value)  # what it was: nothing depends on whether it is shared with others
        self.event(function, *([value] if plain is None else []), makes=True, told=(cls.new, new, plain))
        use(cls)
        use(value)
        return True

    # -- further events ------------------------------------------------------------------------------------

    def build(self) -> None:
        state = self.pop()
        self.event(self.peek(), state)

    def persistent_line(self) -> None:
        self.event(makes=True, told=self.operand())

    def persistent(self) -> None:
        self.event(self.pop(), makes=True)

    def next_buffer(self) -> None:
        self.event(makes=True)

    def read_only_buffer(self) -> None:
        self.event(self.pop(), makes=True)


def _classes_in(parent: Slot) -> Iterator[Slot]:
    """A class, and those that it was taken from."""
    while parent.kind is Kind.CLASS:
        yield parent
        if not parent.parts:
            return
        parent = parent.parts[1].parts[0]


Action = Callable[[Machine], None]

_LINES = {pickle.GET[0], pickle.PUT[0]}
_MAY_GIVE_TEXT = {pickle.REDUCE[0], pickle.PERSID[0], pickle.BINPERSID[0]}
_TUPLE_SIZES = {pickle.EMPTY_TUPLE[0]: 0, pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}
_BY_OPCODE: Mapping[Action, tuple[bytes, ...]] = {
    Machine.other: (
        pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.BINFLOAT,
        pickle.INT, pickle.LONG, pickle.FLOAT, pickle.LONG1, pickle.LONG4, pickle.EMPTY_LIST, pickle.EMPTY_DICT,
        pickle.EMPTY_SET,
    ),
    Machine.text: (
        pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.STRING,
        pickle.BINSTRING, pickle.SHORT_BINSTRING,
    ),
    Machine.content: (pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.BYTEARRAY8),
    Machine.mark: (pickle.MARK,),
    Machine.drop: (pickle.POP,),
    Machine.drop_to_mark: (pickle.POP_MARK,),
    Machine.duplicate: (pickle.DUP,),
    Machine.put: (pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT),
    Machine.memoize: (pickle.MEMOIZE,),
    Machine.get: (pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    Machine.set_protocol: (pickle.PROTO,),
    Machine.nothing: (pickle.FRAME,),
    Machine.stop: (pickle.STOP,),
    Machine.tuple_to_mark: (pickle.TUPLE,),
    Machine.tuple_of: (pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    Machine.made_of_mark: (pickle.LIST, pickle.DICT, pickle.FROZENSET),
    Machine.fill_one: (pickle.APPEND,),
    Machine.fill_pair: (pickle.SETITEM,),
    Machine.fill_to_mark: (pickle.APPENDS, pickle.SETITEMS, pickle.ADDITEMS),
    Machine.look_up_lines: (pickle.GLOBAL,),
    Machine.look_up_stack: (pickle.STACK_GLOBAL,),
    Machine.extension: (pickle.EXT1, pickle.EXT2, pickle.EXT4),
    Machine.instantiate_lines: (pickle.INST,),
    Machine.instantiate_mark: (pickle.OBJ,),
    Machine.instantiate: (pickle.NEWOBJ,),
    Machine.instantiate_by_name: (pickle.NEWOBJ_EX,),
    Machine.reduce: (pickle.REDUCE,),
    Machine.build: (pickle.BUILD,),
    Machine.persistent_line: (pickle.PERSID,),
    Machine.persistent: (pickle.BINPERSID,),
    Machine.next_buffer: (pickle.NEXT_BUFFER,),
    Machine.read_only_buffer: (pickle.READONLY_BUFFER,),
}  # fmt: skip
_ACTIONS: dict[int, Action] = {code[0]: action for action, codes in _BY_OPCODE.items() for code in codes}
