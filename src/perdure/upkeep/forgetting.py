"""Removing an object for good, so that neither the history nor the files of the store have it any more.

- First it is removed as always, in a commit of its own: nobody who refers to it is left behind, and whoever read it
  meets a conflict. Then the backend forgets every version. Cut off in between, the same call does the rest.
- The text of a module is referred to by code records; they let go of it in the same commit, and say so.
"""

from __future__ import annotations

from perdure.errors import ConflictError, NotFound, StorageError, StoreBusy, TransactionError
from perdure.ids import parse_id
from perdure.objects.coding import Code, Source
from perdure.objects.store import Store
from perdure.pickling.classes import name_of
from perdure.upkeep.large import drop_unnamed


def forget(store: Store, id_: str) -> None:
    """See `Store.forget`."""
    desk = store.desk()
    desk.require_writable()
    if desk.is_in_transaction:
        raise TransactionError("To forget makes a commit of its own.", hint="Call it outside of the transaction.")
    checked = parse_id(id_)
    backend = store.backend
    class_name = backend.classes([checked]).get(checked)
    if class_name is not None:
        with store.transaction(note=f"forget {checked}"):
            if class_name == name_of(Source):
                _let_go_of_source(store, checked)
            store.remove(checked)
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


def _let_go_of_source(store: Store, id_: str) -> None:
    source = store.load(id_)
    referrers = store.backend.referrers([id_]).get(id_, [])
    for referrer, class_name in store.backend.classes(referrers).items():
        if class_name == name_of(Code):
            store.load(referrer).erase(source)
