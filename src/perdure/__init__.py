"""Save any object once, load it for ever; run any job once, re-run it exactly.

The front door: every public name, and nothing else. The engines are imported when one of their names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perdure import outside
from perdure.errors import (
    AccessDenied,
    CannotIndex,
    CannotLoad,
    CannotPickle,
    CannotRename,
    CannotResolve,
    ClassNotFound,
    ClockWentBack,
    CommandTimeout,
    ConflictError,
    ConnectionLost,
    CorruptBackup,
    CorruptBundle,
    CorruptJournal,
    CorruptRecord,
    CyclicFlow,
    DiskFull,
    DriverMissing,
    EvolutionWarning,
    FileChanged,
    FlowError,
    IdInUse,
    IllegalTransition,
    InvalidArgument,
    InvalidId,
    InvalidRename,
    JobTimeout,
    KeyMissing,
    MissingUpgrade,
    NameClash,
    NewerClass,
    NewerFormat,
    NoEnvironment,
    NoSuchPath,
    NotAStore,
    NotEmpty,
    NotFound,
    NotIndexed,
    OtherCode,
    OutcomeUnknown,
    PerdureError,
    PrevalenceError,
    ReadOnly,
    ReplayDiffers,
    ResultNotReady,
    RunAlive,
    RunFailed,
    SnapshotTooOld,
    SourceMissing,
    StandbyAway,
    StillReferred,
    StorageError,
    StoreBusy,
    StoreClosed,
    StoreNotFound,
    SystemNotFound,
    TransactionError,
    UnknownScheme,
    UnknownTag,
    UnloadableResult,
    UntrustedRecord,
    UpgradeFailed,
    VersionClash,
    WorkerDied,
    WriterDeposed,
    WrongView,
)
from perdure.evolution.renames import declare_names, move_module, rename
from perdure.evolution.versions import register_class, upgrade, versioned
from perdure.ids import Id, IdFactory, JobIdFactory
from perdure.objects.instances.persistable import Persistable
from perdure.objects.remembering import WORK as _WORK
from perdure.objects.store import Store
from perdure.objects.stores import FilesystemStore, MemoryStore, SqlStore, make_store, register, store_on
from perdure.objects.transactions.savepoints import Savepoint
from perdure.objects.transactions.transaction import Transaction
from perdure.pickling.lasting import keep as _keep  # noqa: F401  # what payloads call to fill what has more than its class
from perdure.pickling.lasting import keeping as _keeping  # noqa: F401  # the same, to make a named tuple
from perdure.pickling.lasting import member as _member  # noqa: F401  # what payloads call members of enumerations by
from perdure.pickling.lasting import shape as _shape  # noqa: F401  # what payloads call a class with a layout by
from perdure.pickling.opaque import Opaque
from perdure.pickling.opaque import makes as _made  # noqa: F401  # what payloads call to make what was opaque
from perdure.pickling.outside import outside as _outside  # noqa: F401  # what payloads call something outside by
from perdure.pickling.outside import reference
from perdure.pickling.own.limits import Limits
from perdure.pickling.references import named as _named  # noqa: F401  # what payloads call a class of a script by
from perdure.pickling.references import reference as _ref  # noqa: F401  # what payloads call a reference
from perdure.pickling.streams import (
    Pickler,
    Unpickler,
    compatible_formats,
    dump,
    dumps,
    format_version,
    load,
    loads,
)
from perdure.records.seal import Key

if TYPE_CHECKING:
    from perdure import prevalence
    from perdure.flows import Attempt, Flow, Job, JobState, Run, RunState, flow, job, rerun, resume, start
    from perdure.pickling.own.inspecting import Inspection, inspect
    from perdure.upkeep.restoring import copy_store, restore
    from perdure.upkeep.sampling import freeze_samples

__version__ = "0.1.0"

_LATE = {
    "Attempt": "perdure.flows.attempts", "Flow": "perdure.flows.definitions", "Job": "perdure.flows.model",
    "JobState": "perdure.flows.states", "Run": "perdure.flows.model", "RunState": "perdure.flows.states",
    "flow": "perdure.flows.definitions", "job": "perdure.flows.definitions", "rerun": "perdure.flows.running",
    "Inspection": "perdure.pickling.own.inspecting", "inspect": "perdure.pickling.own.inspecting",
    "copy_store": "perdure.upkeep.restoring", "restore": "perdure.upkeep.restoring",
    "resume": "perdure.flows.running", "start": "perdure.flows.running", "freeze_samples": "perdure.upkeep.sampling",
}  # fmt: skip

# Classes of perdure's own records, which name them so: found here wherever they live, but not public.
_RECORDED = {
    "Arguments": "perdure.flows.attempts", "Result": "perdure.flows.attempts", "Code": "perdure.objects.coding",
    "Source": "perdure.objects.coding", "Root": "perdure.objects.roots", "RootNames": "perdure.objects.roots",
    "SystemFile": "perdure.prevalence.pieces", "SystemOwner": "perdure.prevalence.pieces",
    "SystemPiece": "perdure.prevalence.pieces",
}  # fmt: skip

# Work on whole stores, which `Store` has methods for, is done on a floor above it.
_WORK.update({
    "check": "perdure.upkeep.checking", "collect": "perdure.upkeep.collecting", "forget": "perdure.upkeep.forgetting",
    "pack": "perdure.upkeep.packing", "backup": "perdure.upkeep.backing_up",
    "repair": "perdure.upkeep.repairing",
})  # fmt: skip

__all__ = [
    "AccessDenied", "Attempt", "CannotIndex", "CannotLoad", "CannotPickle", "CannotRename", "CannotResolve",
    "ClassNotFound", "ClockWentBack", "CommandTimeout", "ConflictError", "ConnectionLost", "CorruptBackup",
    "CorruptBundle",
    "CorruptJournal", "CorruptRecord", "CyclicFlow", "DiskFull", "DriverMissing", "EvolutionWarning", "FileChanged",
    "FilesystemStore", "Flow", "FlowError", "Id", "IdFactory", "IdInUse", "IllegalTransition", "InvalidArgument",
    "InvalidId", "InvalidRename", "Job", "JobIdFactory", "JobState", "JobTimeout", "Key", "KeyMissing", "Limits",
    "Inspection", "MemoryStore", "inspect",
    "MissingUpgrade", "NameClash", "NewerClass", "NewerFormat", "NoEnvironment", "NoSuchPath", "NotAStore", "NotEmpty",
    "NotFound",
    "NotIndexed", "Opaque", "OtherCode", "OutcomeUnknown", "PerdureError", "Persistable", "Pickler", "PrevalenceError",
    "ReadOnly", "ReplayDiffers", "ResultNotReady", "Run", "RunAlive", "RunFailed", "RunState", "Savepoint",
    "SnapshotTooOld", "SourceMissing", "SqlStore", "StandbyAway", "StillReferred", "StorageError", "Store", "StoreBusy",
    "StoreClosed", "StoreNotFound", "SystemNotFound", "Transaction", "TransactionError", "UnknownScheme", "UnknownTag",
    "UnloadableResult", "Unpickler", "UntrustedRecord", "UpgradeFailed", "VersionClash", "WorkerDied", "WriterDeposed",
    "WrongView",
    "compatible_formats", "copy_store",
    "declare_names", "dump", "dumps", "flow", "format_version", "freeze_samples", "job", "load",
    "loads", "make_store", "move_module", "outside", "prevalence", "reference", "register", "register_class", "rename",
    "rerun", "restore", "resume", "start", "store_on", "upgrade", "versioned",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A name of an engine's wing: imported now, since most programs that only keep objects never need it."""
    if name == "prevalence":
        return import_module("perdure.prevalence")
    module = _LATE.get(name) or _RECORDED.get(name)
    if module is not None:
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'perdure' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
