"""The verbs that carry objects from one store to another: `export` into a bundle, `import`.

- Looking at a bundle unpickles and imports nothing. Only `--trust` takes one in.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from perdure.cli.looking import print_json
from perdure.cli.options import Command, Parser, add_json, add_store, command_line, open_store
from perdure.cli.progress import waiting
from perdure.cli.reading import LAST, Reader
from perdure.cli.terminal import clean, counted, painted, table
from perdure.errors import FlowError
from perdure.records.values import INTERNAL
from perdure.upkeep.bundles import SUFFIX, Bundle, read_bundle, take_in, untrusted, write_bundle
from perdure.upkeep.codes import CODE, RUN


def export_bundle(options: argparse.Namespace, ids: list[str], file: str) -> int:
    """`perdure export ID… FILE.perdure`."""
    with open_store(options, read_only=True) as store:
        found = [Reader(store).run_record(LAST).id if id_ == LAST else id_ for id_ in ids]
        with waiting(f"writing {file}"):
            bundle = write_bundle(store, found, file)
    codes = [record for record in bundle.records if record.class_name == CODE]
    print(
        f"{file}: {', '.join(bundle.ids)}, {counted(len(bundle.records), 'record')} in all, with"
        f" {counted(len(codes), 'code record')}.",
        file=sys.stderr,
    )
    return 0


def _arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar=f"FILE{SUFFIX}", help="what `perdure export` wrote")
    parser.add_argument("--trust", action="store_true", help="take it in: the store's key seals what is in it")
    parser.add_argument("--show", action="store_true", help="show what is in its objects, too; nothing of it is run")
    add_store(parser)
    add_json(parser)


def call_import(options: argparse.Namespace) -> int:
    """`perdure import`."""
    bundle = read_bundle(options.file)
    if not options.trust:
        _show(bundle, options)
        if options.show:
            _show_objects(bundle)
        return 0
    with open_store(options, create=True) as store:
        if store.key is None:
            raise FlowError(
                "Without the store's key nothing can be sealed.", hint="Bring it here: perdure key import FILE."
            )
        with waiting(f"taking in {len(bundle.records)} records"):
            adopted = take_in(store, bundle)
    new = {id_: adopted.ids[id_] for id_ in bundle.ids}
    if options.json:
        print_json({"ids": new, "revision": adopted.revision, "from": bundle.store})
        return 0
    for old, id_ in new.items():
        print(f"{old} is {painted(id_, 'bold')} here.")
        if bundle.record(old).class_name == RUN:
            print(f"  Run it again: {command_line(options, 'rerun', id_, '--all', '--code', 'recorded')}")
    return 0


def _show(bundle: Bundle, options: argparse.Namespace) -> None:
    """What is in it, and where it is from, as its headers tell."""
    verified = {True: "every seal is good", None: "its key is not here, so nothing is verified"}[bundle.verified]
    codes = [record for record in bundle.records if record.class_name == CODE]
    if options.json:
        each = [{"id": one.id, "class": one.class_name, "fields": dict(one.fields)} for one in bundle.records]
        print_json(
            {"from": bundle.store, "key": bundle.key, "verified": bool(bundle.verified), "ids": list(bundle.ids),
             "records": each}
        )  # fmt: skip
        return
    print(f"From the store {clean(bundle.store)}, sealed with the key {clean(bundle.key)}: {verified}.")
    rows = [bundle.record(id_) for id_ in bundle.ids]
    cells = [[row.id, row.class_name, row.revision, _fields(dict(row.fields))] for row in rows]
    print("\n".join(table(["ID", "CLASS", "REVISION", "FIELDS"], cells, give=("FIELDS", "CLASS"), indent="  ")))
    own = Counter(record.class_name for record in bundle.records if not record.flags & INTERNAL)
    if own:
        print("  with all that they refer to: " + ", ".join(f"{count} × {clean(name)}" for name, count in own.items()))
    for record in codes:
        print(f"  made by {clean(record.fields.get('summary') or record.id)}")
    print("Nothing was taken in. If you trust where it comes from, --trust does; loading its objects can run code.")


def _show_objects(bundle: Bundle) -> None:
    """What is in the objects that were asked for, opaque; `ids` are others in a store of their own."""
    store, ids = untrusted(bundle)
    for id_ in bundle.ids:
        print(f"\n{id_}\n{store.inspect(ids[id_])}")


def _fields(fields: dict[str, object]) -> str:
    shown = [f"{name}={clean(value)}" for name, value in fields.items() if value not in (None, "")]
    return " ".join(shown)


COMMANDS = {
    "import": Command(
        _arguments,
        call_import,
        "Without --trust it shows where the file is from and what is in it, unpickles nothing and changes nothing.\n"
        "With --trust everything in it enters the store under new ids, as one commit, sealed with the store's key:\n"
        "from then on it is loaded as if it had been saved here, which can run code.",
        ["perdure import survey.perdure", "perdure import survey.perdure --trust --store sqlite:///mine.db"],
    ),
}
