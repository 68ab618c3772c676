"""The verbs for a store's history, and for forgetting: `log`, `undo`, `pack`, `collect`, `forget`."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime, timedelta
from typing import Any

from perdure.cli.looking import print_json
from perdure.cli.options import Command, Parser, add_json, add_store, open_store, whole_number
from perdure.cli.progress import progress_bar, waiting
from perdure.cli.terminal import clean, counted, moment, sized, table
from perdure.clock import SystemClock
from perdure.errors import NotFound
from perdure.ids import parse_id
from perdure.objects.history import Keep, oldest_kept
from perdure.objects.reports import Collected
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.forgetting_backups import versions_in

SHOWN = 20  # commits
_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


# -- log -------------------------------------------------------------------------------------------------


def _log_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--limit", type=whole_number, default=SHOWN, metavar="N", help=f"how many, the newest first ({SHOWN})"
    )
    parser.add_argument("--before", type=whole_number, metavar="REVISION", help="only those below this revision")
    parser.add_argument("--all", action="store_true", help="every commit")
    add_store(parser)
    add_json(parser)


def call_log(options: argparse.Namespace) -> int:
    """`perdure log`."""
    with open_store(options, read_only=True) as store:
        limit = None if options.all else options.limit
        commits = store.transactions(limit, before=options.before)
        if options.json:
            print_json(
                [
                    {"revision": each.revision, "time": each.time, "note": each.note, "code": each.code or None,
                     "objects": len(each.numbers)}
                    for each in commits
                ]
            )  # fmt: skip
        elif not commits:
            print("There is no such commit in this store.", file=sys.stderr)
        else:
            cells = [[each.revision, moment(each.time), len(each.numbers), each.note, each.code] for each in commits]
            print("\n".join(table(["REVISION", "TIME", "OBJECTS", "NOTE", "CODE"], cells, give=("NOTE",))))
            if commits[-1].revision > 1 and not options.all:
                print(f"… older ones: --before {commits[-1].revision}, or --all.")
    return 0


# -- undo ------------------------------------------------------------------------------------------------


def _undo_arguments(parser: Parser) -> None:
    parser.add_argument("revision", type=whole_number, metavar="REVISION", help="the commit; perdure log lists them")
    parser.add_argument("--note", default="", metavar="TEXT", help="what the history says of it")
    add_store(parser)


def call_undo(options: argparse.Namespace) -> int:
    """`perdure undo`."""
    with open_store(options) as store:
        with waiting(f"undoing revision {options.revision}"):
            made = store.undo(options.revision, note=options.note)
        print(f"Revision {options.revision} is undone by revision {made}.")
    return 0


# -- pack ------------------------------------------------------------------------------------------------


def _pack_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--keep",
        type=_keep,
        required=True,
        metavar="WHAT",
        help="how much is kept: 30d, 12h, 90m; a date such as 2026-01-31; or a number of revisions",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be forgotten")
    add_store(parser)
    add_json(parser)


def _keep(text: str) -> Keep:
    span = re.fullmatch(r"(\d+)([smhdw])", text)
    try:
        if span:
            return timedelta(**{_SPANS[span[2]]: int(span[1])})
        if not (text.isascii() and text.isdigit()):
            return datetime.fromisoformat(text)
        if int(text) > 0:
            return int(text)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r:.40} is neither a time such as 30d or 12h, nor a date, nor a number of revisions from 1 on"
    )


def call_pack(options: argparse.Namespace) -> int:
    """`perdure pack`."""
    with open_store(options, read_only=options.dry_run) as store:
        if options.dry_run:
            oldest = max(oldest_kept(store.backend, options.keep, SystemClock().now), store.backend.describe().oldest)
            told: dict[str, Any] = {"oldest": oldest}
            text = f"Nothing that was replaced or removed up to revision {oldest} would be kept."
        else:
            with waiting("packing"):
                packed = store.pack(options.keep)
            told = packed._asdict()
            text = f"Forgot {counted(packed.versions, 'version')} and {counted(packed.pieces, 'large piece')}"
            text += f"; {sized(packed.bytes)} came back." if packed.bytes else "."
            text += f" The store can be seen as it was from revision {packed.oldest} on."
        if options.json:
            print_json(told)
        else:
            print(text)
    return 0


# -- collect ---------------------------------------------------------------------------------------------


def _collect_arguments(parser: Parser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add_store(parser)
    add_json(parser)


def call_collect(options: argparse.Namespace) -> int:
    """`perdure collect`."""
    with open_store(options, read_only=options.dry_run) as store, progress_bar("object") as progress:
        done: Collected = store.collect(dry_run=options.dry_run, progress=progress)
    if options.json:
        print_json({"removed": 0 if options.dry_run else done.removed, "found": done.removed, "objects": done.objects,
                    "ids": list(done.ids)})  # fmt: skip
        return 0
    does = "would be removed" if options.dry_run else "removed"
    shown = ", ".join(done.ids) + (", …" if len(done.ids) < done.removed else "")
    print(f"{counted(done.removed, 'object')} of {done.objects} {does}{': ' + clean(shown) if shown else ''}.")
    return 0


# -- forget ----------------------------------------------------------------------------------------------


def _forget_arguments(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="the id of an object; or of a Source, the text of a module")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be forgotten")
    parser.add_argument(
        "--backup",
        action="append",
        default=[],
        metavar="FILE",
        help="a backup that is to forget it, too; may be repeated",
    )
    add_store(parser)


def call_forget(options: argparse.Namespace) -> int:
    """`perdure forget`."""
    with open_store(options, read_only=options.dry_run) as store:
        id_ = parse_id(options.id)
        if not options.dry_run:
            with waiting(f"forgetting {id_}"):
                store.forget(id_, backups=options.backup)
            shown = "".join(f", nor has {file}" for file in options.backup)
            print(f"{id_} is forgotten: neither the history nor the files of the store have it any more{shown}.")
            return 0
        versions = [version for version in store.backend.history(id_) if version.frame is not None]
        if not store.backend.history(id_):
            raise NotFound(f"There never was a {id_} in this store.", hint="`perdure ls` lists the ids.", ids=(id_,))
        by = store.backend.referrers([id_]).get(id_, [])
        print(f"{counted(len(versions), 'version')} of {id_} would be forgotten.")
        for path in options.backup:
            file = BackupFile(path)
            print(f"{counted(versions_in(file, file.contents(), [id_]), 'version')} of it in {path}, too.")
        if by:
            print(f"It is referred to by {', '.join(map(clean, by[:5]))}{', …' if len(by) > 5 else ''}.")
    return 0


COMMANDS = {
    "log": Command(
        _log_arguments,
        call_log,
        "Nothing is unpickled or imported.",
        ["perdure log --store sqlite:///shop.db", "perdure log --before 100 --limit 50", "perdure log --all --json"],
    ),
    "undo": Command(
        _undo_arguments,
        call_undo,
        "What the commit changed gets its state from before, what it made is removed, what it removed comes back; all"
        "\nas a commit that can be undone as well. Refused where later commits build on it.",
        ["perdure undo 17 --store sqlite:///shop.db", "perdure undo 17 --note 'the wrong prices'"],
    ),
    "pack": Command(
        _pack_arguments,
        call_pack,
        "What is there now stays; of the past, what could be seen within that time, since that date, or at so many"
        "\nrevisions. The space comes back; others may go on meanwhile.",
        ["perdure pack --keep 30d", "perdure pack --keep 2026-01-31 --dry-run", "perdure pack --keep 1"],
    ),
    "collect": Command(
        _collect_arguments,
        call_collect,
        "Kept is what was saved by name or by save, what roots name, and all that these refer to. The history still has"
        "\nwhat is removed, until it is packed. Nothing is unpickled or imported.",
        ["perdure collect --dry-run --store sqlite:///shop.db", "perdure collect"],
    ),
    "forget": Command(
        _forget_arguments,
        call_forget,
        "Refused while other objects refer to it. The id stays taken. A backup forgets it with --backup FILE: it is\n"
        "brought up to date, and written anew. Other copies of the store's files or of backups, and what programs\n"
        "have in memory, are out of its reach.",
        [
            "perdure forget User.17 --dry-run",
            "perdure forget User.17 --backup shop.backup",
            "perdure forget Source.12 --store sqlite:///shop.db",
        ],
    ),
}
