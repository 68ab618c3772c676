"""The source of one module, as this process has imported it.

- A loaded module keeps the text of its first capture until it is reloaded, whatever happens to the file: the text is
  of the code that runs. A module that is not loaded yet has the text that its file has now.
- A file that is younger than this process is compiled and compared with the module's functions before it is believed.
- Nothing of the user's is executed: no attribute is asked of an object, only dictionaries are read.
- Digests are of the text with plain line ends, so a checkout with other line ends has the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from codecs import BOM_UTF8
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from perdure.code.values import BINARY, FILE, UNKNOWN, ModuleCode
from perdure.pickling.classes import MAIN, main_module_name

_MAINS = (MAIN, "__mp_main__")  # the second is the script in a process that multiprocessing has spawned
_NO_SOURCE = (*EXTENSION_SUFFIXES, ".pyc")
NO_TEXT = hashlib.sha256().hexdigest()  # the digest of an empty file, which is not kept
_MARGIN = 0.1  # clocks of files and of processes tick coarsely

Signature = tuple[int, int, int, int] | None


class Source(NamedTuple):
    """The source of a module; `file` is "" for interactive code, `raw` the file's bytes where they are not `text`'s.

    `path_in_record` is where the module was, relative to its root, if it is imported from a code record.
    """

    name: str
    file: str
    origin: str
    text: str
    digest: str
    exact: bool
    module: ModuleType | None
    signature: Signature
    raw: bytes | None = None
    path_in_record: str = ""

    @property
    def is_package(self) -> bool:
        file = self.file or self.path_in_record
        return file.replace(os.sep, "/").rpartition("/")[2].startswith("__init__.")

    def blobs(self) -> tuple[bytes, ...]:
        """The contents that git may have stored for the file: as it is, and with plain line ends."""
        text = self.text.encode("utf-8", "surrogatepass")
        return (text,) if self.raw is None else (self.raw, text)


class _Token(NamedTuple):
    """What changes when a module is imported again or reloaded."""

    module: ModuleType
    spec: object


_known: dict[str, tuple[_Token | None, Source]] = {}


def namespace(module: ModuleType) -> dict[str, Any]:
    """The globals of a module; does not set off the loading of a lazy one."""
    return dict(object.__getattribute__(module, "__dict__"))


def global_of(module: ModuleType, name: str) -> Any:
    """One of the globals of a module, None where there is none: `namespace` would copy them all for it."""
    return object.__getattribute__(module, "__dict__").get(name)


def find_loaded(name: str) -> ModuleType | None:
    """The loaded module of that importable name; the running script is found under the name that it would have."""
    found = sys.modules.get(name)
    if found is None and name != MAIN and name == importable_name(MAIN):
        found = sys.modules.get(MAIN)
    return found if issubclass(type(found), ModuleType) else None


def importable_name(name: str) -> str:
    """`name`, or for the running script (`__main__`) the name under which it can be imported."""
    if name not in _MAINS:
        return name
    main = sys.modules.get(MAIN)
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    if isinstance(spec_name, str) and spec_name.endswith(f".{MAIN}"):
        return spec_name  # `python -m package`: its `__init__` is a module, too
    return main_module_name()


def signature_of(path: str) -> Signature:
    """Changes when the file is written, replaced or removed; None while it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def is_same_module(name: str, source: Source) -> bool:
    """Whether the module of that name is still the one, loaded or not, that `source` was read for."""
    known = _known.get(name)
    return known is not None and known[1] is source and _is_same(_token(find_loaded(name)), known[0])


def read_source(name: str, file: str = "") -> Source:
    """The source of the module `name`; of `file`, if it is not loaded. Origin `unknown` if there is none."""
    module = find_loaded(name)
    token = _token(module)
    known = _known.get(name)
    if known is not None and _is_same(known[0], token):
        source = known[1]
        if source.origin == FILE and (
            token is not None or (source.file, source.signature) == (file, signature_of(file))
        ):
            return source
    source = _read(name, module, file)
    _known[name] = (token, source)
    return source


def file_of(module: ModuleType) -> str:
    """The absolute path that a module was loaded from, or ""."""
    file = global_of(module, "__file__")
    return os.path.abspath(file) if isinstance(file, str) else ""


def loader_of(module: object) -> Any:
    """What loaded a module, as it says itself; None where it does not, or is none."""
    return global_of(module, "__loader__") if isinstance(module, ModuleType) else None


def is_of_record(module: object) -> bool:
    """Whether the module was imported from a code record (see `perdure.code.archives`)."""
    return getattr(type(loader_of(module)), "from_code_record", False)


def source_beside(name: str, importer: object) -> Source | None:
    """The module `name`, not loaded yet, of the code record that the module `importer` was imported from, if it was."""
    if not is_of_record(importer):
        return None
    archive = loader_of(importer).archive
    found = archive.modules.get(name)
    text = None if found is None else archive.text(found)
    if text is None:
        return None
    source = _as_recorded(_of_text(name, "", found.origin, text, None), found)
    _known[name] = (None, source)
    return source


def is_text_of(text: str, digest: str) -> bool:
    """Whether the text is the one of that digest."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == digest


def functions_in(module: ModuleType) -> Iterator[CodeType]:
    """The code of the functions and methods that the module's globals hold, below decorators, too."""
    globals_ = namespace(module)
    name = globals_.get("__name__")
    for value in globals_.values():
        if issubclass(type(value), type):
            members = type.__getattribute__(value, "__dict__")
            if members.get("__module__") == name:
                for member in list(members.values()):
                    yield from codes_below(member)
        else:
            yield from codes_below(value)


def codes_below(value: object) -> Iterator[CodeType]:
    """The code of a function, and of each that it wraps."""
    for _ in range(20):
        if type(value) is property:
            value = value.fget
        elif type(value) in (staticmethod, classmethod):
            value = value.__func__  # type: ignore[attr-defined]
        elif type(value) is FunctionType:
            yield value.__code__
            value = value.__dict__.get("__wrapped__")
        else:
            value = own_attribute(value, "__wrapped__")
        if value is None:
            return


def is_from(code: CodeType, file: str) -> bool:
    """Whether code was compiled from that file (an absolute path); scripts may carry the path that was typed."""
    name = code.co_filename
    return name == file or (not os.path.isabs(name) and file.endswith(os.sep + os.path.normpath(name)))


def own_attribute(value: object, name: str) -> Any:
    """What the object's own dictionary holds under `name`; runs no code of its class (it may be a ghost)."""
    try:
        return object.__getattribute__(value, "__dict__").get(name)
    except (AttributeError, TypeError):
        return None


def _token(module: ModuleType | None) -> _Token | None:
    if module is None:
        return None
    return _Token(module, global_of(module, "__spec__"))


def _is_same(token: _Token | None, other: _Token | None) -> bool:
    """Identity, since the spec of a reloaded module equals the one before."""
    if token is None or other is None:
        return token is other
    return token.module is other.module and token.spec is other.spec


def _read(name: str, module: ModuleType | None, file: str) -> Source:
    if module is not None:
        file = file_of(module)
        if not file:
            return _read_from_record(name, module) if is_of_record(module) else _read_interactive(name, module)
    signature = signature_of(file)
    try:
        with open(file, "rb") as stream:
            raw = stream.read()
    except OSError:
        return _read_from_loader(name, module, file)
    text = None if file.endswith(_NO_SOURCE) else decode(raw)
    if text is None:
        return Source(name, file, BINARY, "", hashlib.sha256(raw).hexdigest(), True, module, signature)
    encoded = text.encode("utf-8", "surrogatepass")
    exact = module is None or _is_what_runs(text, module, file, signature)
    rest = None if raw == encoded else raw
    return Source(name, file, FILE, text, hashlib.sha256(encoded).hexdigest(), exact, module, signature, rest)


def decode(raw: bytes) -> str | None:
    """Source text as the compiler reads it; None if these bytes are none."""
    try:
        if b"coding" not in raw[:400]:
            text = raw.removeprefix(BOM_UTF8).decode()  # "utf-8-sig" would be one more import
            return text if "\r" not in text else text.replace("\r\n", "\n").replace("\r", "\n")
        from importlib.util import decode_source

        return decode_source(raw)
    except (UnicodeDecodeError, SyntaxError):
        return None


def _read_from_loader(name: str, module: ModuleType | None, file: str) -> Source:
    """For what is imported from an archive, or whose file has gone."""
    loader = None if module is None else global_of(module, "__loader__")
    text = None
    if loader is not None and not isinstance(loader, SourceFileLoader) and hasattr(loader, "get_source"):
        try:
            text = loader.get_source(name)
        except (ImportError, OSError):
            text = None
    return _of_text(name, file, FILE if text else UNKNOWN, text or "", module)


def _read_from_record(name: str, module: ModuleType) -> Source:
    loader = loader_of(module)
    return _as_recorded(_of_text(name, "", loader.module.origin, loader.get_source(name) or "", module), loader.module)


def _as_recorded(source: Source, module: ModuleCode) -> Source:
    return source._replace(digest=module.digest, exact=module.exact, path_in_record=module.path)


def _read_interactive(name: str, module: ModuleType) -> Source:
    from perdure.code.typed import cells_of, describe  # a program with files only does not pay for it

    origin, text = describe(name, namespace(module), cells_of(functions_in(module)))
    return _of_text(name, "", origin, text, module)


def _of_text(name: str, file: str, origin: str, text: str, module: ModuleType | None) -> Source:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""
    return Source(name, file, origin, text, digest, bool(text), module, signature_of(file) if file else None)


def _is_what_runs(text: str, module: ModuleType, file: str, signature: Signature) -> bool:
    """Whether the text is that of the loaded module, as far as its functions tell."""
    if signature is None or max(signature[0], signature[3]) / 1e9 < _STARTED - _MARGIN:
        return True
    if type(global_of(module, "__loader__")) is not SourceFileLoader:
        return True  # a loader that changes the code (pytest's) leaves nothing to compare
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    written: dict[str, list[CodeType]] = {}
    todo = [compiled]
    while todo:
        code = todo.pop()
        written.setdefault(code.co_qualname, []).append(code)
        todo.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    return all(
        any(code == other for other in written.get(code.co_qualname, ()))
        for code in functions_in(module)
        if is_from(code, file)
    )


def _process_start() -> float:
    """When this process began, in seconds since 1970; 0 where the system does not tell."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0
    return time.time() - age


_STARTED = _process_start()
