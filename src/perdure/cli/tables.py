"""The verbs on the fields of a class: `export`, `reindex`."""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys

from perdure.cli.asking import add_asking, chosen
from perdure.cli.bundling import export_bundle
from perdure.cli.importing import import_users
from perdure.cli.looking import ended_with
from perdure.cli.options import Command, Parser, add_store, open_store
from perdure.cli.progress import progress_bar
from perdure.cli.reading import LAST, Reader
from perdure.cli.terminal import counted
from perdure.errors import FlowError, NotFound
from perdure.records.values import Record
from perdure.upkeep.bundles import SUFFIX

_ID = re.compile(r"[\w-]+\.\d+")


# -- export ----------------------------------------------------------------------------------------------


def _export_arguments(parser: Parser) -> None:
    parser.add_argument(
        "what", nargs="+", metavar="CLASS | ID",
        help=f"a class (User, or shop:User): CSV; or ids (or: last) and a file that is called …{SUFFIX}: a bundle",
    )  # fmt: skip
    parser.add_argument("--fields", metavar="A,B", help="these fields only, in this order")
    add_asking(parser)
    add_store(parser)


def call_export(options: argparse.Namespace) -> int:
    """`perdure export`."""
    *ids, last = options.what
    if last.endswith(SUFFIX):
        if not ids or options.fields or options.where or options.order or options.limit is not None:
            told = "takes ids alone: conditions and fields are for CSV" if ids else "needs the ids of objects before it"
            raise FlowError(f"A bundle ({last}) {told}.")
        return export_bundle(options, ids, last)
    if ids or last == LAST or _ID.fullmatch(last):
        raise FlowError(
            f"{' '.join(options.what)} goes into a file.", hint=f"Name it last, with this ending: objects{SUFFIX}."
        )
    options.class_name = last
    with open_store(options, read_only=True) as store:
        reader = Reader(store)
        whole = ":" in options.class_name
        records = [
            record
            for record in reader.records(class_name=options.class_name if whole else None)
            if whole or record.class_name.rpartition(":")[2] == options.class_name
        ]
        names = _names(records, options)
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["id", *names])
        for record in chosen(records, options):
            writer.writerow([record.id, *(record.fields.get(name) for name in names)])
        return ended_with(reader)


def _names(records: list[Record], options: argparse.Namespace) -> list[str]:
    there = list(dict.fromkeys(name for record in records for name in record.fields))
    if not options.fields:
        return there
    names = [name.strip() for name in options.fields.split(",")]
    unknown = [name for name in names if name not in there]
    if records and unknown:
        told = f"There are: {', '.join(there)}. " if there else ""
        raise NotFound(
            f"No record of {options.class_name} tells {unknown[0]!r} in its header.",
            hint=f"{told}Attributes in __indexed__ of the class are told; `perdure reindex` brings old records to it.",
        )
    return names


# -- reindex ---------------------------------------------------------------------------------------------


def _reindex_arguments(parser: Parser) -> None:
    parser.add_argument("class_name", metavar="MODULE:CLASS", help="shop:User; its module is imported from here")
    add_store(parser)


def call_reindex(options: argparse.Namespace) -> int:
    """`perdure reindex`."""
    module, _, name = options.class_name.partition(":")
    if not module or not name:
        raise NotFound(f"{options.class_name!r} names no class.", hint="Write its module and its name: shop:User.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    import_users(module, module)
    with open_store(options, create=False) as store, progress_bar("object") as progress:
        written = store.reindex(options.class_name, progress=progress)
    print(f"{counted(written, 'object')} written anew.")
    return 0


_EXPORT_TEXT = f"""\
Of a class: the fields in the headers of its records as CSV, as `perdure ls` shows them: what __indexed__ of the class
and extra_fields of the store name.

Of ids, with a file that is called …{SUFFIX}: a bundle with these objects, all that they refer to, and the code that
made them, for `perdure import` elsewhere. Nothing is unpickled or imported."""

COMMANDS = {
    "export": Command(
        _export_arguments,
        call_export,
        _EXPORT_TEXT,
        [
            "perdure export Job --fields state,created --store sqlite:///jobs.db > jobs.csv",
            f"perdure export last Order.7 survey{SUFFIX} --store sqlite:///survey.db",
            "perdure export shop:Order --where state=open --order -placed",
        ],
    ),
    "reindex": Command(
        _reindex_arguments,
        call_reindex,
        "What was saved before the class had its index is written anew, in batches; others may go on writing.",
        ["perdure reindex shop:User --store sqlite:///shop.db"],
    ),
}
