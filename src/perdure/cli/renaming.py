"""The verb `rename`: names of classes and modules, changed in a store or in a file of pickles."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from perdure.cli.looking import print_json
from perdure.cli.options import Command, Parser, add_json, add_store, command_line, open_store
from perdure.cli.progress import progress_bar
from perdure.cli.terminal import clean, counted, table
from perdure.errors import InvalidRename
from perdure.evolution.names import Names, read_names
from perdure.pickling.renames import Renames
from perdure.upkeep.renaming import RenameReport, rename_in_store
from perdure.upkeep.renaming_back import put_back
from perdure.upkeep.renaming_files import FileReport, rename_in_file

FINE, AT_FAULT = 0, 3
SHOWN = 20  # records that are left as they are

Changed = Mapping[tuple[str, str], int]


def _rename_arguments(parser: Parser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="[STORE|FILE] OLD NEW",
        help="the store's URL or a file of pickles (by default the store of --store), and two names: module:Class",
    )  # fmt: skip
    parser.add_argument("--module", action="store_true", help="OLD and NEW are modules; what is below moves along")
    parser.add_argument("--names", metavar="TOML", help="a file with the tables [rename] and [move_module]")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be changed")
    parser.add_argument("--copy", metavar="FILE", help="a new file for the records as they were; see the guide")
    parser.add_argument("--put-back", metavar="FILE", help="bring back what --copy of the same rename wrote")
    add_store(parser)
    add_json(parser)


def call_rename(options: argparse.Namespace) -> int:
    """`perdure rename`."""
    place, names = _asked(options)
    renames = Renames(names.renames, names.moves)
    if place is not None and "://" not in place and os.path.isfile(place):
        return _in_file(place, renames, options)
    options.store = place or options.store
    with open_store(options, read_only=options.dry_run) as store, progress_bar("record") as progress:
        if options.put_back is not None:
            report = put_back(store, renames, options.put_back)
        else:
            report = rename_in_store(
                store, renames, dry_run=options.dry_run, copy_to=options.copy, progress=progress
            )  # fmt: skip
    if options.json:
        print_json(_plain(report))
    else:
        _tell(report, options)
    _tell_refused(report)
    return AT_FAULT if report.refused else FINE


def _asked(options: argparse.Namespace) -> tuple[str | None, Names]:
    """Where, and what is to be renamed."""
    words = list(options.words)
    place = words.pop(0) if len(words) % 2 else None
    names = Names() if options.names is None else read_names(options.names)
    if len(words) > 2 or not (words or options.names):
        raise InvalidRename(
            "An old name and a new one are needed.",
            hint="perdure rename [STORE|FILE] OLD NEW, or perdure rename [STORE|FILE] --names renames.toml",
        )
    given = dict([words]) if words else {}
    return place, names.joined(Names({}, given) if options.module else Names(given))


def _in_file(path: str, renames: Renames, options: argparse.Namespace) -> int:
    if options.copy or options.put_back:
        raise InvalidRename("--copy and --put-back are for stores.", hint=f"Of a file there is {path}.bak.")
    with progress_bar("opcode") as progress:
        report = rename_in_file(path, renames, dry_run=options.dry_run, progress=progress)
    if options.json:
        print_json({"pickles": report.pickles, "names": _rows(report.names), "backup": report.backup})
    else:
        _tell_file(path, report, options)
    return FINE


def _tell_file(path: str, report: FileReport, options: argparse.Namespace) -> None:
    if not report.names:
        print(f"Nothing in {clean(path)} has such a name.", file=sys.stderr)
        return
    cells = [[old, new, count] for (old, new), count in report.names.items()]
    print("\n".join(table(["OLD", "NEW", "NAMES"], cells, give=("OLD", "NEW"))))
    count = counted(sum(report.names.values()), "name")
    if options.dry_run:
        print(f"{count} in {counted(report.pickles, 'pickle')} would be changed.")
    else:
        print(f"{count} in {counted(report.pickles, 'pickle')} changed; as it was: {clean(report.backup)}")


def _tell(report: RenameReport, options: argparse.Namespace) -> None:
    if not report.records:
        if not report.refused:
            print("Nothing in this store has such a name.", file=sys.stderr)
        return
    pairs = dict.fromkeys([*report.classes, *report.names])
    cells = [[*pair, report.classes.get(pair) or "", report.names.get(pair) or ""] for pair in pairs]
    print("\n".join(table(["OLD", "NEW", "RECORDS", "NAMES INSIDE"], cells, give=("OLD", "NEW"))))
    told = f"{report.records} of {counted(report.looked_at, 'record')}"
    if options.dry_run:
        print(f"{told} would be changed.")
        return
    undo = "; ".join(command_line(options, "undo", str(revision)) for revision in reversed(report.revisions))
    print(f"{told} changed. Take it back:  {undo}")


def _tell_refused(report: RenameReport) -> None:
    for refused in report.refused[:SHOWN]:
        print(f"{clean(refused.id)} is left as it is: {clean(refused.why)}", file=sys.stderr)
    if len(report.refused) > SHOWN:
        print(f"… and {len(report.refused) - SHOWN} more (--json lists all).", file=sys.stderr)


def _plain(report: RenameReport) -> dict[str, Any]:
    return {
        "records": report.records, "looked_at": report.looked_at, "classes": _rows(report.classes),
        "names": _rows(report.names), "refused": [refused._asdict() for refused in report.refused],
        "revisions": list(report.revisions),
    }  # fmt: skip


def _rows(changed: Changed) -> list[dict[str, Any]]:
    return [{"old": old, "new": new, "count": count} for (old, new), count in changed.items()]


COMMANDS = {
    "rename": Command(
        _rename_arguments,
        call_rename,
        "In every record, or in each pickle of the file; what merely looks like a name stays. Nothing is imported or"
        "\nunpickled. A store gets commits that can be undone; of a file, FILE.bak is kept. What cannot be changed with"
        "\ncertainty is left as it is and listed, with exit status 3.",
        [
            "perdure rename sqlite:///shop.db shop.models:Cart shop.models:Basket --dry-run",
            "perdure rename --module old_shop shop --store sqlite:///shop.db",
            "perdure rename carts.pkl shop.models:Cart shop.models:Basket",
            "perdure rename sqlite:///shop.db --names renames.toml",
        ],
        intermixed=True,
    ),
}
