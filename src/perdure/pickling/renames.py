"""Rules by which names of classes and modules change: what a name is called after all renames and moves.

- A rename is of one `module:Qualified.Name` and of what is nested in it; a move is of a module and of all below it.
- The most specific rule counts: a rename before a move, a longer name before a shorter one.
- Rules follow one another: what one gives may be the old name of the next. A circle is an error.
- A move or rename to a place below the old one leaves alone what is below the new one already: doing it again, or
  meeting a new record, changes nothing more.
- Names that pickles below protocol 3 spell as Python 2 did (`__builtin__`, `copy_reg`) are met in either spelling.
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING, REVERSE_IMPORT_MAPPING, REVERSE_NAME_MAPPING
from collections.abc import Iterator, Mapping

from perdure.errors import InvalidRename

OWN = "perdure"
MOST_KNOWN = 10_000  # names whose answer is remembered

Name = tuple[str, str]  # module, qualified name


class Renames:
    """What changes, by old names; raises `InvalidRename` for what are no names, clashes and circles.

    `renames` are from `module:Name` to `module:Name`, `moves` from module to module. `signs` are bytes of which some
    are in every pickle that names what is to be changed.
    """

    def __init__(self, renames: Mapping[str, str] | None = None, moves: Mapping[str, str] | None = None):
        self.renames = {parse_name(old): parse_name(new) for old, new in (renames or {}).items()}
        self.moves = {parse_module(old): parse_module(new) for old, new in (moves or {}).items()}
        self._known: dict[Name, Name] = {}
        self._refuse_same()
        self._refuse_circles()
        modules = {module for module, _ in self.renames} | self.moves.keys()
        found = [_spellings(module, below=module in self.moves) for module in sorted(modules)]
        self.signs = tuple(dict.fromkeys(name for names, _ in found for name in names))
        self._needles = tuple(dict.fromkeys(needle for _, needles in found for needle in needles))

    def of(self, module: str, qualname: str) -> Name:
        """The new name of a class or function; its own where nothing changes."""
        found = self._known.get((module, qualname))
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[module, qualname] = self._followed((module, qualname))
        return found

    def of_text(self, name: str) -> str:
        """The new name of `module:Name`; a text that is no such name stays what it is."""
        module, colon, qualname = name.partition(":")
        return ":".join(self.of(module, qualname)) if colon and module and qualname else name

    def of_member(self, cls: Name, new: Name, text: str) -> str | None:
        """The new name of a member of an enumeration (of flags: joined by `|`); None where it would leave its class.

        `new` is the class's new name.
        """
        found = []
        for member in text.split("|"):
            module, qualname = self.of(cls[0], f"{cls[1]}.{member}")
            owner, _, name = qualname.rpartition(".")
            if (module, owner) != new:
                return None
            found.append(name)
        return "|".join(found)

    def of_module(self, module: str) -> str:
        """The new name of a module: what its moves, and none of its renames, make of it."""
        used: set[str] = set()
        while (old := self._move_of(module)) is not None and old not in used:
            used.add(old)
            module = self.moves[old] + module[len(old) :]
        return module

    def reaches_below(self, module: str, qualname: str = "") -> bool:
        """Whether a rename is of something inside that class, or of anything in that module where no class is named."""
        if not qualname:
            return self.of_module(module) != module or any(old == module for old, _ in self.renames)
        return any(old == module and is_below(name, qualname) and name != qualname for old, name in self.renames)

    def may_be_in(self, data: bytes) -> bool:
        """False where no old name can be in these bytes, as picklers and headers write them."""
        if not any(sign in data for sign in self.signs):  # which are fewer
            return False
        return any(needle in data for needle in self._needles)

    def spelled(self, name: Name, protocol: int) -> Name | None:
        """The name as pickles of that protocol spell it; None where such a pickle would be read as another name."""
        if protocol >= 3:
            return name
        for candidate in (python2_name(name), name):
            if python3_name(candidate) == name:
                return candidate
        return None

    def _followed(self, name: Name) -> Name:
        used: set[object] = set()
        while True:
            rule = self._rule_of(name)
            if rule is None or rule in used:
                return name
            used.add(rule)
            name = self._by_rule(rule, name)

    def _rule_of(self, name: Name) -> Name | str | None:
        """The old name of the rule that a name comes under."""
        module, qualname = name
        for length in range(len(parts := qualname.split(".")), 0, -1):
            rule = module, ".".join(parts[:length])
            new = self.renames.get(rule)
            if new is not None and not _is_there_already(rule, new, name):
                return rule
        return self._move_of(module)

    def _move_of(self, module: str) -> str | None:
        for length in range(len(parts := module.split(".")), 0, -1):
            old = ".".join(parts[:length])
            new = self.moves.get(old)
            if new is not None and not (is_below(new, old) and is_below(module, new)):
                return old
        return None

    def _by_rule(self, rule: Name | str, name: Name) -> Name:
        module, qualname = name
        if isinstance(rule, str):
            return self.moves[rule] + module[len(rule) :], qualname
        new_module, new_name = self.renames[rule]
        return new_module, new_name + qualname[len(rule[1]) :]

    def _refuse_same(self) -> None:
        for old, new in self._all():
            if old == new:
                raise InvalidRename(f"{_shown(old)} is to become {_shown(new)}, which it is.", hint="Leave it out.")

    def _refuse_circles(self) -> None:
        for old, _ in self._all():
            name = (old, "_") if isinstance(old, str) else old
            way, used = [old], set()
            while (rule := self._rule_of(name)) is not None:
                if rule in used:
                    raise InvalidRename(
                        f"Names go in a circle: {' → '.join(_shown(each) for each in way)}.",
                        hint="Take one of these out. To exchange two names, go by a third one, in two runs.",
                    )
                used.add(rule)
                name = self._by_rule(rule, name)
                way.append(name[0] if isinstance(old, str) and name[1] == "_" else name)

    def _all(self) -> Iterator[tuple[Name | str, Name | str]]:
        yield from self.renames.items()
        yield from self.moves.items()


def parse_name(text: str) -> Name:
    """The parts of `module:Qualified.Name`; raises `InvalidRename`."""
    module, colon, qualname = text.partition(":")
    if not colon or not _is_dotted(module) or not _is_dotted(qualname):
        raise InvalidRename(f"{text!r:.200} is no name of a class.", hint="Write its module and its name: shop:User.")
    return _not_own(module, text), qualname


def parse_module(text: str) -> str:
    """The name of a module, as it is; raises `InvalidRename`."""
    if not _is_dotted(text):
        hint = "A class is renamed, not moved: [rename], or without --module." if ":" in text else "shop.models is one."
        raise InvalidRename(f"{text!r:.200} is no name of a module.", hint=hint)
    return _not_own(text, text)


def is_below(name: str, above: str) -> bool:
    """Whether a dotted name is another one, or begins with it and a dot."""
    return name == above or name.startswith(f"{above}.")


def python3_name(name: Name) -> Name:
    """What a name in a pickle below protocol 3 means today (PEP 3108)."""
    if name in NAME_MAPPING:
        return NAME_MAPPING[name]
    return IMPORT_MAPPING.get(name[0], name[0]), name[1]


def python2_name(name: Name) -> Name:
    """What Python 2 called it."""
    if name in REVERSE_NAME_MAPPING:
        return REVERSE_NAME_MAPPING[name]
    return REVERSE_IMPORT_MAPPING.get(name[0], name[0]), name[1]


def _is_there_already(rule: Name, new: Name, name: Name) -> bool:
    """Whether a rename to something inside the old class meets what is inside the new one."""
    return new[0] == rule[0] and is_below(new[1], rule[1]) and is_below(name[1], new[1])


def _is_dotted(text: str) -> bool:
    return all(part and all(c.isprintable() and c not in " :" for c in part) for part in text.split("."))


def _not_own(module: str, text: str) -> str:
    if is_below(module, OWN):
        raise InvalidRename(f"{text!r} is perdure's own.", hint="Its names in records are part of the format for ever.")
    return module


def _shown(name: Name | str) -> str:
    return name if isinstance(name, str) else ":".join(name)


def _spellings(module: str, *, below: bool) -> tuple[list[bytes], list[bytes]]:
    """The module's name as bytes, and what is in every pickle and every header that names something in it."""
    old = [key for key, value in IMPORT_MAPPING.items() if value == module or (below and is_below(value, module))]
    old += [key[0] for key, value in NAME_MAPPING.items() if is_below(value[0], module)]
    names = [spelling.encode("utf-8", "surrogatepass") for spelling in (module, *old)]
    escaped = [spelling.encode("raw_unicode_escape") for spelling in (module, *old)]
    needles = [name + mark for name in (*names, *escaped) for mark in ((b"\n", b":", b".") if below else (b"\n", b":"))]
    needles += [len(name).to_bytes(4, "little") + name for name in names]
    needles += [len(name).to_bytes(1, "little") + name for name in names if len(name) < 256]
    needles += [escape(needle) for needle in needles for escape in (_in_text, _in_native)]
    return list(dict.fromkeys([*names, *escaped])), needles


def _in_text(needle: bytes) -> bytes:
    """As it stands in a text of protocol 0, where that holds a pickle."""
    return b"".join(b"\\u%04x" % byte if byte in b"\0\n\r\\\x1a" else bytes([byte]) for byte in needle)


def _in_native(needle: bytes) -> bytes:
    """The same in a `str` that Python 2 wrote as a line."""
    return repr(needle)[2:-1].encode()
