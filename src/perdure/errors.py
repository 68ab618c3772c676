"""Every error that perdure raises, in one tree.

- `PerdureError` is above all of them; each also has the builtin parent that a caller would expect.
- The message says what happened and where; `hint` says what to do; `ids` and `path` carry the names as values.
- `retryable` is true where the same call may succeed later without any change to the program.
- All of them can be pickled, so that they cross process borders unharmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class PerdureError(Exception):
    """Something that perdure could not do. `str()` gives the message followed by the hint.

    What a message repeats of somebody's bytes cannot steer a terminal: it is escaped.
    """

    retryable: ClassVar[bool] = False
    usual_hint: ClassVar[str] = ""  # where nothing more particular is known

    def __init__(self, message: str, *, hint: str = "", ids: Iterable[str] = (), path: str = "", **details: Any):
        message = message if message.isprintable() else _shown(message)
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.ids = tuple(ids)
        self.path = path
        self.details = details

    def __getattr__(self, name: str) -> Any:
        """What else is known about the error: for example `.revisions` of a `ConflictError`."""
        details = self.__dict__.get("details", {})
        if name in details:
            return details[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.ids, self.path, self.details)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text)


def _rebuild(
    cls: type[PerdureError], message: str, hint: str, ids: tuple[str, ...], path: str, details: dict[str, Any]
) -> PerdureError:
    return cls(message, hint=hint, ids=ids, path=path, **details)


# -- ids and look-ups ------------------------------------------------------------------------------------


class NotFound(PerdureError, LookupError):
    """There is no object of that id, no root, run or job of that name."""

    usual_hint = "Look at the id or the name: `list` and `roots` tell which there are."


class NoSuchPath(PerdureError, AttributeError):
    """A path of attributes to be loaded beforehand leads nowhere; `.path` is the path."""

    usual_hint = 'A path is of attributes, such as "items.owner"; their classes say which they have.'


class InvalidId(PerdureError, ValueError):
    """The text is not an id: `PREFIX.N`, prefix of letters, digits, `_` and `-`."""

    usual_hint = "An id is written as `store.save` gave it: PREFIX.N."


class IdInUse(PerdureError, ValueError):
    """A factory of ids gave a number that an object of the store already has."""


class CannotIndex(PerdureError, ValueError):
    """The value of an indexed attribute is none that every database can hold and order."""

    usual_hint = "Index something else of the object: None, a bool, a number, or a short text."


class NotIndexed(PerdureError, LookupError):
    """A query asks for an attribute that is not indexed, or not in every record of the class yet."""


class StillReferred(PerdureError, ValueError):
    """The object cannot be removed: `.referrers` are the ids of the objects that refer to it."""


# -- transactions and views ------------------------------------------------------------------------------


class ConflictError(PerdureError):
    """Another commit changed what this one read. `.revisions` maps each id to (revision read, revision found)."""

    retryable = True


class SnapshotTooOld(PerdureError):
    """The revision that is asked for is not kept any more."""

    retryable = True
    usual_hint = "Begin anew, at a later revision."


class TransactionError(PerdureError, RuntimeError):
    """A call that does not fit the state of the transaction, or a save from within the pickling of an object."""

    usual_hint = "Begin another transaction."


class WrongView(PerdureError, RuntimeError):
    """An object of one thread's (task's, store's) view was written or saved in another view."""

    usual_hint = "Load the object by its id in this thread, task or store."


# -- stores ----------------------------------------------------------------------------------------------


class StoreNotFound(NotFound):
    """There is no store at that place, and the call does not make one."""

    usual_hint = "Look at the place; opened for writing, a store is made there."


class NotAStore(PerdureError, ValueError):
    """What is at that place is something else than a store."""

    usual_hint = "Give the place of a store, or one where nothing is yet."


class NewerFormat(PerdureError, ValueError):
    """The store, or the record, was written by a later release of perdure than this one."""

    usual_hint = "Install a later release."


class UnknownScheme(PerdureError, ValueError):
    """No kind of store is registered for the scheme of that URL."""


class DriverMissing(PerdureError, ImportError):  # type: ignore[misc]  # both have a path: here it is empty
    """A package that this kind of store needs is not installed."""


class StoreClosed(PerdureError, RuntimeError):
    """The store was closed."""


class ReadOnly(PerdureError, RuntimeError):
    """The store was opened for reading only."""


class StoreBusy(PerdureError, TimeoutError):
    """Another process kept the store locked for longer than the time-out."""

    retryable = True


class StorageError(PerdureError, RuntimeError):
    """The disk or the database refused an operation; nothing of it was kept."""

    usual_hint = "Look after the disk or the database, then try again."


class DiskFull(StorageError):
    """No space is left for the store; nothing of the failed commit was kept."""


class AccessDenied(StorageError):
    """The operating system does not let this user read or write the store."""


class OutcomeUnknown(StorageError):
    """An error came while data was being made durable: the store is read-only in this process from now on."""


class ConnectionLost(StorageError):
    """The connection to the database broke; nothing was kept. The next call makes a new one."""

    retryable = True


class InvalidArgument(PerdureError, ValueError, TypeError):
    """An argument is not of the kind, or not of the size, that the call takes."""

    usual_hint = "The reference says what the call takes."


# -- records, trust, pickling ----------------------------------------------------------------------------


class CorruptRecord(PerdureError, ValueError):
    """The bytes of a record are damaged or cut short."""

    usual_hint = "Take it from a backup."


class CorruptBundle(CorruptRecord):
    """A file of exported objects was cut short, or changed since it was written; or it is none."""

    usual_hint = "Have it exported, or copied, once more."


class CorruptBackup(CorruptRecord):
    """A backup was changed since it was written, was cut short, or is none."""

    usual_hint = "Take another copy of it, or make a new one."


class NotEmpty(PerdureError, ValueError):
    """A store that is to be filled from elsewhere has objects, or a history, of its own."""

    usual_hint = "Name a place where no store is."


class UntrustedRecord(PerdureError, ValueError):
    """A record without a good seal by this store's key; nothing of it was executed."""

    usual_hint = "Read it with trust='all' only if you know where it comes from."


class KeyMissing(PerdureError, LookupError):
    """The store's key is not on this machine, so nothing can be sealed or verified."""

    usual_hint = "Take it in with: perdure key import FILE."


class ClassNotFound(PerdureError, ImportError):  # type: ignore[misc]  # both have a path: here it is the class's name
    """The class (or function) that a record names cannot be imported here."""

    usual_hint = "Import, or install, the module that defines it; or give it its old name again."


class SourceMissing(ClassNotFound):
    """A code record names a module whose text is nowhere: not kept, and not in a repository that is here."""

    usual_hint = "Fetch the commits of its repository, or export the run where its code is."


class VersionClash(ClassNotFound):
    """A module of a code record is wanted, and this process has another version of it."""


class CannotPickle(PerdureError, TypeError):
    """A part of the object cannot be pickled; `.path` is the way to it, from the object that was saved."""

    usual_hint = "Leave that part out in __getstate__, or keep it outside of the store (perdure.reference)."


class CannotLoad(PerdureError, ValueError):
    """The record is whole and trusted, but the classes in it refuse the stored state."""

    usual_hint = "Give the class a __setstate__ that takes the state, or the code that it was written with."


class UpgradeFailed(CannotLoad):
    """A step of an upgrade raised; `.step` names it, `.version` is the one that it begins at. The record stays."""


class NewerClass(CannotLoad):
    """A record was written by a later version of its class than the one that is here."""


class CannotResolve(CannotLoad, LookupError):
    """Something outside of the store, to which a record refers by `.tag` and `.key`, cannot be had."""

    usual_hint = "See that it is there, or give what finds it in `resources`."


class FileChanged(CannotResolve):
    """A file that is kept by its digest does not have the content any more that it had when it was stored."""


class UnknownTag(CannotResolve):
    """A record refers to something outside of the store by a tag for which nothing is registered here."""


# -- classes that change ---------------------------------------------------------------------------------


class InvalidRename(PerdureError, ValueError):
    """Names of classes or modules that are to be changed are no names, clash, or lead in a circle."""


class CannotRename(PerdureError, ValueError):
    """A name in a pickle cannot be changed with certainty; `.position` and `.opcode` say where, the message why."""


class NameClash(PerdureError, ValueError):
    """Two classes claim one name; `.path` is the name."""


class MissingUpgrade(PerdureError, ValueError):
    """The steps of a versioned class do not lead from its oldest version to its newest, or one is there twice."""


class EvolutionWarning(UserWarning):
    """What is stored does not quite fit its class any more; nothing is lost, and it is said once."""


# -- prevalence ------------------------------------------------------------------------------------------


class PrevalenceError(PerdureError, RuntimeError):
    """A prevalent system was used in a way that it does not allow."""


class SystemNotFound(StoreNotFound):
    """There is no prevalent system in that directory, and the call does not make one."""


class CorruptJournal(CorruptRecord):
    """A journal or snapshot lacks something that was there; `.path` is the file, `.offset` the place in it."""

    usual_hint = "`perdure prevalence verify` lists all that is wrong; then take the file from a backup."


class CommandTimeout(PrevalenceError, TimeoutError):
    """A command ran longer than the time limit; its changes are undone. `.sequence` is its number."""


class ClockWentBack(PrevalenceError):
    """The clock of this machine is far behind the time of the last command; nothing was journaled."""

    retryable = True


class WriterDeposed(PrevalenceError):
    """A standby was promoted and writes the system now: this one takes no more commands. `.epoch` is the new one's."""

    usual_hint = "Open the system where it is written now; this copy of it can become a standby of that one."


class StandbyAway(PrevalenceError):
    """No standby made a command durable, and `sync=True` wants one. `.sequence` is it; 0: none was journaled."""

    retryable = True


class ReplayDiffers(PrevalenceError):
    """Replaying gives another state than before; `.sequence` is the first command that differs."""


# -- flows -----------------------------------------------------------------------------------------------


class FlowError(PerdureError, RuntimeError):
    """A flow, a job or a run was used in a way that it does not allow."""


class CyclicFlow(FlowError):
    """Jobs need one another's results in a circle; `.path` names it."""

    usual_hint = "Let one of them do without the result of another."


class RunFailed(FlowError):
    """The run has no result, since jobs failed; `.failures` maps the job's name to the error text."""


class RunAlive(FlowError):
    """The run belongs to a process that still lives."""

    usual_hint = "Wait until it has ended, or end that process first."


class IllegalTransition(FlowError):
    """A job or run cannot go from its present state to that one."""


class ResultNotReady(FlowError):
    """The job or run has not ended."""

    usual_hint = "`perdure show` and `.state` tell how far it is."

    retryable = True


class JobTimeout(FlowError, TimeoutError):
    """A job ran longer than its time-out."""

    usual_hint = "Give it more time, `@job(timeout=…)`, or less to do; a re-run does it again."


class NoEnvironment(FlowError):
    """The environment that a job ran in cannot be made anew: `uv` is not here, or could not do it."""


class OtherCode(FlowError):
    """A job that was to run with recorded code ran with another text of a module than the recorded one."""


class WorkerDied(FlowError):
    """The process that ran the job ended before the job did."""

    usual_hint = "Look whether memory ran out, or who ended it; a re-run does it again."


class UnloadableResult(FlowError):
    """What a job returned could be pickled here, but could not be loaded from the store."""

    usual_hint = "Let the job return what can be loaded from a store by itself."
