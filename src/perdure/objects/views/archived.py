"""Classes that cannot be found here, from the code records of the objects that they are needed for.

- A code record is read as any record is: only if its seal is good, or if all are trusted.
- Without leave (`make_store(…, code="archived")`) nothing is imported; the error then tells how to give it.
- Once a module was imported from one code record, objects of another one with another text of it are refused.
"""

from __future__ import annotations

from typing import Protocol

from perdure.backends.base import Backend
from perdure.code.archives import Archive, is_claimed
from perdure.errors import ClassNotFound, NotFound, SourceMissing, VersionClash
from perdure.objects.payloads.codes import Decode, read_code
from perdure.pickling.classes import find
from perdure.records.frame import Parts, parse_unverified
from perdure.records.values import CLASS_FIELD, FOREIGN


class Reading(Protocol):
    """What is asked of the view."""

    backend: Backend
    revision: int

    def decoder(self) -> Decode: ...


class Archives:
    """The code records of one view's store; `imports` says whether anything may be imported from them."""

    def __init__(self, reading: Reading):
        self._reading = reading
        self.imports = False
        self._archives: dict[str, Archive] = {}
        self._agreed: set[tuple[str, str]] = set()  # code records and modules that fit what was imported

    def provide(self, error: ClassNotFound) -> bool:
        """Import what was not found from the code record of the object that it was needed for; whether it is here now.

        If not, the error tells what can be done. Raises `VersionClash`, `SourceMissing`, `UntrustedRecord`.
        """
        if isinstance(error, (VersionClash, SourceMissing)) or "archive" in error.details or not error.ids:
            return False  # it was looked for already, and the error says so
        module, _, name = str(error.details.get("where", error.path)).partition(":")  # a stable name has no module
        code = self._code_of(error.ids[0]) if name else ""
        error.details["archive"] = code
        if not code:
            return False
        if not self.imports:
            error.hint += (
                f" Or open the store with code='archived': then it is imported from {self._shown(code)}, the code that"
                " made the object, if that has it. It runs that code."
            )
            return False
        try:
            provided = self._archive(code).provide(module)
        except ClassNotFound as other:
            other.ids = error.ids
            raise other from error
        except NotFound:
            error.hint += f" Its code record {code} is not in the store any more."
            return False
        if not provided or not _is_there(error.path):
            error.hint += f" {self._shown(code)}, the code that made the object, does not have it either."
            return False
        return True

    def guarded(self, decode: Decode) -> Decode:
        """`decode`, and after it a refusal of what was made by another version of what was imported."""

        def checked(frame: bytes) -> Parts:
            parts = decode(frame)
            if parts[2] & FOREIGN:
                return parts  # nothing is imported for it
            module, code = str(parts[7].get(CLASS_FIELD, parts[3])).partition(":")[0], parts[5]
            if code and is_claimed(module) and (code, module) not in self._agreed:
                self._refuse_other(parts[0], code, module)
            return parts

        return checked if self.imports else decode

    def _refuse_other(self, id_: str, code: str, module: str) -> None:
        try:
            self._archive(code).refuse_other(module)
        except ClassNotFound as error:
            error.ids = (id_,)
            raise
        except NotFound:
            return  # nothing tells that it is another one
        self._agreed.add((code, module))

    def _archive(self, code: str) -> Archive:
        found = self._archives.get(code)
        if found is None:
            found = self._archives[code] = read_code(self._reading.backend, self._reading.decoder(), code).archive()
        return found

    def _code_of(self, id_: str) -> str:
        """The id of the code record of an object; "" if there is none."""
        frame = self._reading.backend.read([id_], self._reading.revision).get(id_)
        return "" if frame is None else self._reading.decoder()(frame)[5]

    def _shown(self, code: str) -> str:
        frame = self._reading.backend.read([code]).get(code)
        commits = "" if frame is None else str(parse_unverified(frame).fields.get("commit") or "")
        return f"{code} (commit {commits[:7]})" if commits else code


def _is_there(name: str) -> bool:
    try:
        find(name)
    except ClassNotFound:
        return False
    return True
