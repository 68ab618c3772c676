"""Removing an object for good, so that neither the history nor the files of the store have it any more.

- First it is removed as always, in a commit of its own: nobody who refers to it is left behind, and whoever read it
  meets a conflict. Then the backend forgets every version. Cut off in between, the same call does the rest.
- The text of a module is referred to by code records; they let go of it in the same commit, and say so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import chain

from perdure.backends.base import Backend
from perdure.errors import (
    ConflictError,
    NotFound,
    PerdureError,
    StillReferred,
    StorageError,
    StoreBusy,
    TransactionError,
)
from perdure.ids import parse_id
from perdure.objects.roots import refuse_names
from perdure.objects.store import Store
from perdure.objects.transactions.steps import remove
from perdure.records.frame import parse_unverified
from perdure.records.values import CODE, SOURCE
from perdure.upkeep.forgetting_backups import forget_in_backup
from perdure.upkeep.large import drop_unnamed, older_versions


def forget(store: Store, id_: str, backups: Iterable[str | os.PathLike[str]] = ()) -> None:
    """See `Store.forget`."""
    _forget(store, id_)
    for path in backups:
        try:
            forget_in_backup(store, path, [id_])
        except PerdureError as error:
            error.hint = f"{id_} is forgotten in the store, but not in {path}: repeat the call. {error.hint}".strip()
            raise


def _forget(store: Store, id_: str) -> None:
    desk = store.desk()
    desk.require_writable()
    if desk.is_in_transaction:
        raise TransactionError("To forget makes a commit of its own.", hint="Call it outside of the transaction.")
    checked = parse_id(id_)
    refuse_names(checked, "forgotten")
    backend = store.backend
    class_name = backend.classes([checked]).get(checked)
    if class_name is not None:
        with store.transaction(note=f"forget {checked}"):
            if class_name == SOURCE:
                _let_go_of_source(store, checked)
            if class_name == CODE:
                _refuse_named(backend, checked)
            remove(desk, checked, code_too=True)
    elif not backend.history(checked):
        raise NotFound(f"There never was a {checked} in this store.", ids=(checked,))
    try:
        backend.erase([checked])
        if drop_unnamed(store):
            backend.erase([checked])  # once more: nothing of what was dropped stays in the files
    except (StorageError, StoreBusy) as error:
        error.hint = f"{checked} is removed, but not erased yet: repeat the call, which does the rest. {error.hint}"
        raise
    except ValueError as error:
        raise ConflictError(
            f"{checked} came back by another commit while it was erased.",
            hint="Repeat the call.",
            ids=(checked,),
            revisions={},
        ) from error


def _refuse_named(backend: Backend, id_: str) -> None:
    """Raise `StillReferred` where a commit, or a kept version of an object, names that code record."""
    commits = [commit.revision for commit in backend.commits() if commit.code == id_]
    frames = chain(backend.scan(), (frame for _, frame in older_versions(backend)))
    records = dict.fromkeys(record.id for record in map(parse_unverified, frames) if record.code == id_)
    if commits or records:
        by = [*records][:5] + [f"commit {revision}" for revision in commits[:3]]
        raise StillReferred(
            f"{id_} cannot be forgotten: it is the code record of {', '.join(by)}.",
            hint="Forget those, or have them packed away, before. A text in it can be forgotten by itself.",
            ids=(id_,),
            referrers=tuple(records),
        )


def _let_go_of_source(store: Store, id_: str) -> None:
    source = store.load(id_)
    referrers = store.backend.referrers([id_]).get(id_, [])
    for referrer, class_name in store.backend.classes(referrers).items():
        if class_name == CODE:
            store.load(referrer).erase(source)
