"""Writes the stores of this folder, once, by the release that brought format 1; later releases only read them.

Run it in this folder. It makes `shop.db` and `shop/`, sealed with the key of `make.py`, which is no secret.
"""

from __future__ import annotations

import os

from format1_shop import Customer, Fraught, Price, Queue, Slotted, halves

import perdure
from perdure.records.seal import Key

KEY = Key(bytes(range(32)))


def fill(store: perdure.Store) -> None:
    """One object for each way in which a record is written, three revisions of one, a removal, and a run."""
    ada, ben = Customer("Ada"), Customer("Ben")
    ada.friend, ben.friend = ben, ada
    ada.orders = [Price(3, "EUR"), {"for": ben}]
    queue = Queue([ada, 1, "two"])
    queue.append(queue)
    queue.name = "waiting"
    with store.transaction(note="first"):
        store.roots["customers"] = [ada, ben]
        store.roots["queue"] = queue
        store.save(Slotted(7, ada))
        store.save(Fraught("open sesame"))
    store.save([1, ben, {"three"}])
    with store.transaction(note="second"):
        ada.tags.add("old")
    gone = store.save(Customer("Gone"))
    store.remove(gone)
    os.environ.pop("MENDED", None)
    run = perdure.start(halves, [2, 3, 4], store=store)
    os.environ["MENDED"] = "1"
    perdure.rerun(run)


if __name__ == "__main__":
    for url in ("sqlite:///shop.db", "shop"):
        with perdure.make_store(url, key=KEY) as opened:
            fill(opened)
