"""Carries out the opcodes of a pickle, on values of its own making; what is made of names is the builder's to say.

- One loop over the opcodes, no recursion; lengths are compared with the bytes that are really there.
- Strict form: PROTO only at the beginning, no memo entry twice, no mark or value left over, no extension codes, no
  persistent ids, frames as long as they say.
- Only containers that this pickle has made are filled, by the methods of their types; hashing keys is bounded.
- A name that is to be called never becomes part of a value, nor does what is not finished.
- `UntrustedRecord` for what is refused, `CorruptRecord` for what is no pickle, `CannotLoad` for what classes of the
  program refuse; nothing else comes out.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Protocol

from perdure.errors import CannotLoad, PerdureError
from perdure.pickling.opcodes import NAMES
from perdure.pickling.own import filling, literals
from perdure.pickling.own.bounds import amount_of, check_result, take_apart
from perdure.pickling.own.limits import LIMIT_HINT, Refused, Wrong, corrupt, untrusted
from perdure.pickling.own.stack import OWED, Arguments, Pending

HIGHEST_PROTOCOL = 5


class Builder(Protocol):
    """What makes values of names: by the registry, or by keeping everything opaque."""

    def find(self, module: str, name: str) -> Any:
        """What a name means: a class of the program's, or a `Callee`. Raises `Refused`."""

    def call(self, function: Any, args: tuple[Any, ...], *, names: bool) -> Any:
        """What a REDUCE gives; `names` says whether names stand among the arguments."""

    def make(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A bare object, as by NEWOBJ."""

    def build(self, obj: Any, state: Any) -> Any:
        """Put a state in; gives the object, or what it has become."""

    def target(self, obj: Any) -> Any:
        """What items are put into in the place of an object that is no plain container."""

    def persistent(self, key: Any) -> Any:
        """What a persistent id stands for."""

    def extension(self, code: int) -> Any:
        """What an extension code stands for."""

    def finish(self) -> None:
        """A pickle has ended."""


class Machine(filling.Filling):
    """Reads pickles that stand in `data` one after the other; the memo goes on from one to the next."""

    def __init__(self, data: bytes, builder: Builder, **settings: Any):
        super().__init__(data, **settings)
        self.builder = builder
        self.target = builder.target  # type: ignore[method-assign]
        self.steps = 0
        self.begun = self.position
        self.framed = 0
        self.kept, self.frail = [], []

    def load(self) -> Any:
        """The next value."""
        self.begun = self.position
        self.stack, self.marks = [], []
        self.kept, self.frail = [], []
        try:
            self._run()
            if self.marks or len(self.stack) != 1:
                raise Wrong("values are left over at its end, or there is none")
            if self.framed > self.position:
                raise Wrong("a frame goes beyond its end")
            value = self.value()
            check_result(value, self.kept + self.frail, self.limits, self.kinds, self.longest)
            self.builder.finish()
        except BaseException as error:
            take_apart(self.frail)
            if isinstance(error, PerdureError) or not isinstance(error, Exception):
                raise
            # What else may come: constructors and state methods of registered classes have run here.
            raise self.told(error) from (error.__cause__ if isinstance(error, (Refused, Wrong)) else error)
        return value

    def told(self, error: Exception) -> PerdureError:
        """The error that says where something came out."""
        if isinstance(error, Refused):
            return untrusted(error.reason, self.at, self.opcode, error.hint)
        if isinstance(error, Wrong):
            return corrupt(f"{error}", self.at)
        if isinstance(error, UnicodeDecodeError):
            return self._undecodable(error)
        if isinstance(error, IndexError):
            return corrupt("it ends too early, or takes more than there is", self.at)
        if isinstance(error, MemoryError):
            return untrusted("there is not enough memory for it", self.at, self.opcode, LIMIT_HINT)
        return CannotLoad(
            f"The object cannot be built from what is stored: {type(error).__name__}: {error}"
            f" ({self.opcode} at position {self.at}).",
            hint="Its class refused the stored state; the exception that it raised is the cause of this one.",
        )

    def go_on(self, data: bytes) -> None:
        """Take the next bytes of the same stream; memo and layouts stay."""
        self.data, self.size = data, len(data)
        self.position = self.framed = self.steps = self.made = 0
        self.taken += self.size

    @property
    def opcode(self) -> str:
        """The name of the opcode that is carried out."""
        code = self.data[self.at] if self.at < self.size else 0
        return NAMES.get(code, repr(bytes([code])))

    def require_end(self) -> None:
        """Raise `CorruptRecord` if bytes are left."""
        if self.position != self.size:
            raise corrupt("bytes follow its end", self.position)

    def _run(self) -> None:
        data, size, actions = self.data, self.size, _ACTIONS
        memo, most_memo = self.memo, self.limits.memo
        most = self.limits.opcodes if size > self.limits.opcodes else 0  # 0: fewer bytes than that
        while True:
            at = self.at = self.position
            if at >= size:
                raise corrupt("it ends before its STOP", at)
            code = data[at]
            self.position = at + 1
            if most:
                self.steps += 1
                if self.steps > most:
                    raise Refused(f"there are more than {most} opcodes", LIMIT_HINT)
            if code == _MEMOIZE:  # the most frequent one: without a call
                place = len(memo)
                if place in memo or place >= most_memo:
                    self.memoize()
                memo[place] = self.stack[-1]
            elif code == _STOP:
                return
            else:
                actions[code](self)

    def _undecodable(self, error: UnicodeDecodeError) -> PerdureError:
        if self.data[self.at] in _UTF8:
            return corrupt(f"a text is no UTF-8: {error.reason}", self.at)
        return CannotLoad(
            f"A text in the pickle cannot be decoded: {error}.",
            hint="For a pickle written by Python 2, give encoding='utf-8', 'latin-1' or 'bytes'.",
        )

    # -- stack and memo ------------------------------------------------------------------------------------

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def pop_to_mark(self) -> None:
        self.to_mark()

    def duplicate(self) -> None:
        self.stack.append(self.stack[-1])

    def memoize(self) -> None:
        memo = self.memo
        place = len(memo)
        if place in memo:
            raise Wrong(f"memo entry {place} is there already")
        if place >= self.limits.memo:
            raise Refused(f"there are more than {self.limits.memo} memo entries", LIMIT_HINT)
        memo[place] = self.stack[-1]

    def put(self, place: int) -> None:
        memo = self.memo
        if place in memo:
            raise Wrong(f"memo entry {place} is there already")
        if len(memo) >= self.limits.memo:
            raise Refused(f"there are more than {self.limits.memo} memo entries", LIMIT_HINT)
        memo[place] = self.stack[-1]

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise Wrong(f"nothing was put at memo entry {place}")
        self.stack.append(self.memo[place])

    def line_place(self) -> int:
        line = self.line()
        if not line.isdigit() or len(line) > 10:
            raise Wrong("the index of a memo entry is no number")
        return int(line)

    # -- names and objects -----------------------------------------------------------------------------------

    def look_up(self, module: Any, name: Any) -> Any:
        if type(module) is not str or type(name) is not str:
            raise Refused("a name is no text")
        most = self.limits.name
        if len(module) > most or len(name) > most:
            raise Refused(f"a name is longer than {most} characters", LIMIT_HINT)
        return self.builder.find(module, name)

    def look_up_lines(self) -> Any:
        module, name = self.line(), self.line()
        return self.look_up(module.decode(), name.decode())

    def push_name_in_lines(self) -> None:
        self.stack.append(self.look_up_lines())

    def push_name_on_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.look_up(module, name))

    def push_made(self, value: Any) -> None:
        self.count_made()
        if type(value) is Pending:
            value.place = len(self.memo)
        self.stack.append(value)

    def reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(args) is Arguments:
            self.push_made(self.builder.call(function, args.items, names=True))
        elif type(args) is tuple:
            self.push_made(self.builder.call(function, args, names=False))
        else:
            raise Wrong("arguments come as something else than a tuple")

    def new_object(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        self._make(cls, args, {})

    def new_object_by_name(self) -> None:
        kwargs, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
            raise Wrong("arguments by name come as something else than a dict")
        self._make(cls, args, kwargs)

    def _make(self, cls: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if type(args) is not tuple:
            raise Refused("arguments come as something else than a tuple of values")
        self.push_made(self.builder.make(cls, args, kwargs))

    def _instantiate(self, cls: Any, args: tuple[Any, ...]) -> None:
        """INST and OBJ, of Python 2: a call where there are arguments, a bare object else."""
        names = not OWED.isdisjoint(map(type, args))
        self.push_made(self.builder.call(cls, args, names=names) if args else self.builder.make(cls, (), {}))

    def instantiate_lines(self) -> None:
        args = tuple(self.to_mark())
        self._instantiate(self.look_up_lines(), args)

    def instantiate_mark(self) -> None:
        cls, *args = self.to_mark() or [None]
        self._instantiate(cls, tuple(args))

    def build(self) -> None:
        state = self.value()
        obj: Any = self.stack[-1]
        is_pending = type(obj) is Pending
        if is_pending:
            self.copy(amount_of(state))
        else:
            self.keep(state)
        built = self.builder.build(obj, state)
        if is_pending:
            self.stack[-1] = built
            place: int = obj.place
            if self.memo.get(place) is obj:
                self.memo[place] = built

    def persistent(self) -> None:
        self.stack.append(self.builder.persistent(self.value()))

    def persistent_line(self) -> None:
        self.stack.append(self.builder.persistent(self.line().decode("ascii", "backslashreplace")))

    def next_buffer(self) -> None:
        if self.buffers is None:
            raise CannotLoad("The pickle refers to buffers beside it.", hint="Give them as buffers=…")
        for buffer in self.buffers:
            self.stack.append(buffer)
            return
        raise Wrong("it asks for more buffers than there are")

    def read_only_buffer(self) -> None:
        try:
            with memoryview(self.stack[-1]) as view:
                if not view.readonly:
                    self.stack[-1] = view.toreadonly()
        except (TypeError, BufferError) as error:
            raise Wrong("something else than a buffer is marked as read-only") from error

    # -- form ------------------------------------------------------------------------------------------------

    def protocol(self) -> None:
        if self.at != self.begun:
            raise Wrong("its protocol is told in its middle")
        number = self.take(1)[0]
        if number > HIGHEST_PROTOCOL:
            raise Wrong(f"{number} is no known protocol")

    def frame(self) -> None:
        length = int.from_bytes(self.take(8), "little")
        if length > self.size - self.position or self.at < self.framed:
            raise Wrong("a frame goes beyond its end, or is in a frame")
        self.framed = self.position + length

    def nonsense(self) -> None:
        raise Wrong(f"{bytes([self.data[self.at]])!r} is no opcode")


Action = Callable[[Machine], None]


def _at(action: Callable[[Machine, int], None], width: int) -> Action:
    """An opcode whose operand is a number: the index of a memo entry, or an extension code."""

    def by_line(machine: Machine) -> None:
        action(machine, machine.line_place())

    def by_bytes(machine: Machine) -> None:
        action(machine, int.from_bytes(machine.take(width), "little"))

    return by_bytes if width else by_line


_STOP, _MEMOIZE = pickle.STOP[0], pickle.MEMOIZE[0]
_UTF8 = {pickle.BINUNICODE[0], pickle.SHORT_BINUNICODE[0], pickle.BINUNICODE8[0], pickle.GLOBAL[0], pickle.INST[0]}

_BY_OPCODE: dict[bytes, Action] = {
    pickle.POP: Machine.pop,
    pickle.POP_MARK: Machine.pop_to_mark,
    pickle.DUP: Machine.duplicate,
    pickle.MEMOIZE: Machine.memoize,
    pickle.PUT: _at(Machine.put, 0),
    pickle.BINPUT: _at(Machine.put, 1),
    pickle.LONG_BINPUT: _at(Machine.put, 4),
    pickle.GET: _at(Machine.get, 0),
    pickle.BINGET: _at(Machine.get, 1),
    pickle.LONG_BINGET: _at(Machine.get, 4),
    pickle.GLOBAL: Machine.push_name_in_lines,
    pickle.STACK_GLOBAL: Machine.push_name_on_stack,
    pickle.REDUCE: Machine.reduce,
    pickle.NEWOBJ: Machine.new_object,
    pickle.NEWOBJ_EX: Machine.new_object_by_name,
    pickle.INST: Machine.instantiate_lines,
    pickle.OBJ: Machine.instantiate_mark,
    pickle.BUILD: Machine.build,
    pickle.BINPERSID: Machine.persistent,
    pickle.PERSID: Machine.persistent_line,
    pickle.EXT1: _at(lambda machine, code: machine.stack.append(machine.builder.extension(code)), 1),
    pickle.EXT2: _at(lambda machine, code: machine.stack.append(machine.builder.extension(code)), 2),
    pickle.EXT4: _at(lambda machine, code: machine.stack.append(machine.builder.extension(code)), 4),
    pickle.NEXT_BUFFER: Machine.next_buffer,
    pickle.READONLY_BUFFER: Machine.read_only_buffer,
    pickle.PROTO: Machine.protocol,
    pickle.FRAME: Machine.frame,
}
_ACTIONS: list[Action] = [Machine.nonsense] * 256
for _opcode, _action in _BY_OPCODE.items():
    _ACTIONS[_opcode[0]] = _action
for _code, _own in (*literals.ACTIONS.items(), *filling.ACTIONS.items()):
    _ACTIONS[_code] = _own
