"""The verbs for classes that change: `upgrade`, `plan`."""

from __future__ import annotations

import argparse
import os
import sys

from perdure.cli.importing import import_users
from perdure.cli.looking import print_json
from perdure.cli.options import Command, Parser, add_json, add_store, open_store
from perdure.cli.progress import progress_bar
from perdure.cli.terminal import clean, counted, table
from perdure.evolution.renames import declare_names
from perdure.objects.reports import Planned
from perdure.upkeep.planning import plan
from perdure.upkeep.upgrading import upgrade


def _upgrade_arguments(parser: Parser) -> None:
    parser.add_argument("url", nargs="?", metavar="STORE", help="the store, as with --store")
    parser.add_argument(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="a module with classes and upgrades, imported first; may be given several times",
    )  # fmt: skip
    parser.add_argument("--names", metavar="FILE", help="a TOML file of renames")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be written")
    add_store(parser)
    add_json(parser)


def call_upgrade(options: argparse.Namespace) -> int:
    """`perdure upgrade`."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module in options.modules:
        import_users(module, module)
    if options.names:
        declare_names(options.names)
    options.store = options.url or options.store
    with open_store(options, read_only=options.dry_run) as store, progress_bar("record") as progress:
        done = upgrade(store, dry_run=options.dry_run, progress=progress)
    if options.json:
        print_json({**done._asdict(), "problems": [problem._asdict() for problem in done.problems]})
    else:
        does = "would be written anew" if options.dry_run else "written anew"
        print(f"{counted(done.written, 'record')} of {done.objects} {does}.")
        for problem in done.problems:
            print(f"{clean(problem.id)}: {clean(problem.what)}", file=sys.stderr)
        if done.failures:
            print(f"{counted(done.failures, 'record')} could not be looked at, and stayed.", file=sys.stderr)
    return 3 if done.failures else 0


def _plan_arguments(parser: Parser) -> None:
    parser.add_argument("url", nargs="?", metavar="STORE", help="the store, as with --store")
    parser.add_argument("--history", action="store_true", help="count older versions of objects, too")
    parser.add_argument("--all", action="store_true", help="perdure's own classes, too")
    add_store(parser)
    add_json(parser)


def call_plan(options: argparse.Namespace) -> int:
    """`perdure plan`."""
    options.store = options.url or options.store
    with open_store(options, read_only=True) as store, progress_bar("record") as progress:
        rows = plan(store, history=options.history, progress=progress)
    if not options.all:
        rows = [row for row in rows if not row.class_name.startswith("perdure:")]
    if options.json:
        print_json([row._asdict() for row in rows])
    elif not rows:
        print("There is nothing in this store.", file=sys.stderr)
    else:
        heads = ["CLASS", "VERSION", "RECORDS", *(["OLDER"] if options.history else []), "EXAMPLE", "ATTRIBUTES"]
        print("\n".join(table(heads, [_cells(row, options.history) for row in rows], give=("ATTRIBUTES",))))
    return 0


def _cells(row: Planned, history: bool) -> list[object]:
    name = f"{row.class_name} (inside)" if row.nested else row.class_name
    names = "" if row.attributes is None else ", ".join(row.attributes)
    return [name, row.version or "", row.records, *([row.older] if history else []), row.example, names]


COMMANDS = {
    "upgrade": Command(
        _upgrade_arguments,
        call_upgrade,
        "Written anew is what has an old version, an old name of its class, or other attributes than its class has now;"
        "\neach batch is a commit. What cannot be loaded stays as it is, and is listed; then the exit status is 3."
        "\nIt may be cut off, and begun again. Classes are imported from here.",
        [
            "perdure upgrade sqlite:///shop.db --import shop.models --dry-run",
            "perdure upgrade sqlite:///shop.db --import shop.models",
        ],
    ),
    "plan": Command(
        _plan_arguments,
        call_plan,
        "Nothing is imported. An upgrade from a version may go when no record of that version is left, also not in the"
        "\nhistory (--history), as far as that is still to be loaded.",
        ["perdure plan sqlite:///shop.db", "perdure plan --history --store sqlite:///shop.db"],
    ),
}
