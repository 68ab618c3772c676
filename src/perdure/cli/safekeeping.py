"""The verbs that keep a store safe: `backup`, `restore`, `copy`, `check`, `repair`."""

from __future__ import annotations

import argparse
import os
import sys

from perdure.backends.urls import without_password
from perdure.cli.looking import print_json
from perdure.cli.options import KEY_VARIABLE, Command, Parser, add_json, open_store
from perdure.cli.progress import progress_bar, waiting
from perdure.cli.terminal import clean, counted, moment, sized, table
from perdure.errors import InvalidArgument
from perdure.objects.reports import Problem, Restored
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.restoring import copy_store, restore

# -- backup ----------------------------------------------------------------------------------------------


def _backup_arguments(parser: Parser) -> None:
    parser.add_argument("store", metavar="STORE", help="the store: sqlite:///jobs.db, or a directory")
    parser.add_argument("file", metavar="FILE", help="the backup; if it is there, what came since is added")
    add_json(parser)


def call_backup(options: argparse.Namespace) -> int:
    """`perdure backup`."""
    with open_store(options, read_only=True) as store, progress_bar("record") as progress:
        done = store.backup(options.file, progress=progress)
    if options.json:
        print_json(done._asdict())
        return 0
    if done.cut:
        print(f"{counted(done.cut, 'byte')} of an earlier attempt that was cut off are taken away.", file=sys.stderr)
    if done.anew:
        print("The store was packed since: the backup was begun anew.", file=sys.stderr)
    if done.revision == done.since:
        print(f"{options.file} is up to date: revision {done.revision}.")
        return 0
    pieces = f" and {counted(done.pieces, 'large piece')}" if done.pieces else ""
    since = f" since revision {done.since}" if done.since else ""
    print(
        f"{options.file}: {counted(done.records, 'record')}{pieces}{since}, up to revision {done.revision}"
        f" ({sized(done.bytes)}; {sized(done.size)} in all)."
    )
    return 0


# -- restore ---------------------------------------------------------------------------------------------


def _restore_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="what `perdure backup` wrote")
    parser.add_argument("store", metavar="STORE", nargs="?", help="a new place, or an empty store")
    parser.add_argument(
        "--whole-only", action="store_true", help="leave aside a last increment that was cut off, instead of stopping"
    )
    parser.add_argument("--dry-run", action="store_true", help="only verify the file, and say what is in it")
    add_json(parser)


def call_restore(options: argparse.Namespace) -> int:
    """`perdure restore`."""
    if options.dry_run:
        return _show(options)
    if not options.store:
        raise InvalidArgument("No store is named.", hint="perdure restore FILE STORE; or --dry-run, to only look.")
    key = os.environ.get(KEY_VARIABLE) or None
    with progress_bar("record") as progress:
        done = restore(options.file, options.store, key=key, whole_only=options.whole_only, progress=progress)
    return _tell(done, options, options.file)


def _show(options: argparse.Namespace) -> int:
    contents = BackupFile(options.file).contents()
    if options.json:
        each = [increment._asdict() for increment in contents.increments]
        print_json(
            {"store": contents.store, "key": f"{contents.key:08x}", "increments": each, "torn": contents.torn,
             "pieces": len(contents.pieces), "encrypted": contents.encrypted}
        )  # fmt: skip
        return 3 if contents.torn else 0
    how = "encrypted and sealed" if contents.encrypted else "sealed"
    print(f"A backup of the store {clean(contents.store)}, {how} with the key {contents.key:08x}.")
    cells = [[each.since, each.revision, moment(each.time), each.records] for each in contents.increments]
    print("\n".join(table(["SINCE", "REVISION", "TIME", "RECORDS"], cells, indent="  ")))
    if contents.torn:
        print(f"The last {counted(contents.torn, 'byte')} are of an increment that is not whole.", file=sys.stderr)
    return 3 if contents.torn else 0


# -- copy ------------------------------------------------------------------------------------------------


def _copy_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="FROM", help="the store that is copied")
    parser.add_argument("target", metavar="TO", help="a new place, an empty store, or one that an earlier copy began")
    parser.add_argument(
        "--encrypt",
        action=argparse.BooleanOptionalAction,
        help="whether the copy is encrypted; by default it is as the store is",
    )
    parser.add_argument(
        "--new-key", action="store_true", help="seal, and encrypt, everything anew with a key of the copy's own"
    )
    add_json(parser)


def call_copy(options: argparse.Namespace) -> int:
    """`perdure copy`."""
    with progress_bar("record") as progress:
        key = os.environ.get(KEY_VARIABLE) or None
        how = {"encrypt": options.encrypt, "new_key": options.new_key}
        done = copy_store(options.source, options.target, key=key, progress=progress, **how)
    options.store = options.target
    return _tell(done, options, options.source)


def _tell(done: Restored, options: argparse.Namespace, source: str) -> int:
    if options.json:
        print_json(done._asdict())
        return 0
    if done.torn:
        print(f"{counted(done.torn, 'byte')} of an increment that is not whole were left aside.", file=sys.stderr)
    seals = "every seal is good" if done.sealed else "its key is not here, so no seal was verified"
    print(
        f"{without_password(options.store)} is {without_password(source)} up to revision {done.revision}:"
        f" {counted(done.records, 'record')}, {counted(done.written, 'revision')} of them written now. Read again, all"
        f" is the same; {seals}."
    )
    if done.unfilled:
        print(
            f"Columns that have got nothing, or not of every record: {', '.join(map(clean, done.unfilled))}. Give the"
            " functions for them as extra_fields to perdure.copy_store, or let store.reindex fill them.",
            file=sys.stderr,
        )
    return 0


# -- check and repair ------------------------------------------------------------------------------------


def _check_arguments(parser: Parser) -> None:
    parser.add_argument("store", metavar="STORE", help="the store: sqlite:///jobs.db, or a directory")
    add_json(parser)


def call_check(options: argparse.Namespace) -> int:
    """`perdure check`."""
    with open_store(options, read_only=True) as store:
        revision = store.backend.revision()
        with waiting("checking"):
            problems = store.check()
    if options.json:
        print_json({"revision": revision, "problems": [each._asdict() for each in problems]})
    else:
        for each in problems:
            print(_shown(each))
        print(f"{counted(len(problems), 'problem')}, up to revision {revision}.", file=sys.stderr)
    return 3 if problems else 0


def _repair_arguments(parser: Parser) -> None:
    parser.add_argument("store", metavar="STORE", help="the store: sqlite:///jobs.db, or a directory")
    parser.add_argument("--from", dest="source", metavar="FILE", help="a backup of the store, for what is damaged")
    parser.add_argument("--folder", help="where to keep what is taken out; by default one beside the store")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    add_json(parser)


def call_repair(options: argparse.Namespace) -> int:
    """`perdure repair`."""
    with open_store(options) as store, waiting("repairing"):
        done = store.repair(source=options.source, folder=options.folder, dry_run=options.dry_run)
    status = 3 if done.left and not options.dry_run else 0
    if options.json:
        told = {name: [each._asdict() for each in getattr(done, name)] for name in ("found", "done", "left")}
        print_json({**told, "folder": done.folder})
        return status
    for each in done.done:
        print(("would do: " if options.dry_run else "done: ") + _shown(each))
    if options.dry_run:
        print(f"{counted(len(done.found), 'problem')} found; nothing was done.", file=sys.stderr)
        return status
    for each in done.left:
        print("still wrong: " + _shown(each))
    kept = f" What was taken out is in {done.folder}." if done.folder else ""
    print(
        f"{counted(len(done.found), 'problem')} found, {len(done.left)} left.{kept}"
        + (" What is left can only come from a backup: --from FILE." if done.left and not options.source else ""),
        file=sys.stderr,
    )
    return status


def _shown(problem: Problem) -> str:
    return f"{problem.id} {clean(problem.what)}" if problem.id else clean(problem.what)


COMMANDS = {
    "check": Command(
        _check_arguments,
        call_check,
        "Every record and every older version is read, its seal and checksum verified; every reference leads\n"
        "somewhere; ids, counter, commits, indexes, code records and large pieces agree. Nothing is unpickled or\n"
        "changed. The exit status is 3 if anything is wrong.",
        ["perdure check sqlite:///shop.db", "perdure check jobs/ --json"],
    ),
    "repair": Command(
        _repair_arguments,
        call_repair,
        "Indexes are made anew from the records, the counter is moved above all numbers; with --from, damaged\n"
        "records, missing ones and large pieces come back from a backup. No healthy record is touched, and none is\n"
        "removed. The exit status is 3 if something is still wrong.",
        ["perdure repair sqlite:///shop.db --dry-run", "perdure repair sqlite:///shop.db --from shop.backup"],
    ),
    "backup": Command(
        _backup_arguments,
        call_backup,
        "Others may go on with the store meanwhile. Everything is in the file but the key: keep that elsewhere\n"
        "(perdure key export). Cut off, the file is what it was before; the next backup cuts off what is left.",
        ["perdure backup sqlite:///shop.db shop.backup", "perdure backup jobs/ /mnt/safe/jobs.backup"],
    ),
    "restore": Command(
        _restore_arguments,
        call_restore,
        "The file is verified first, and what was written is read again. Cut off, the same command goes on. The key\n"
        "is not needed to restore, only to write afterwards (perdure key import).",
        ["perdure restore shop.backup sqlite:///shop.db", "perdure restore shop.backup --dry-run"],
    ),
    "copy": Command(
        _copy_arguments,
        call_copy,
        "Every revision is carried over, with its frames as they are, and read again at the end. Cut off, the same\n"
        "command goes on where it was; repeated later, it brings what came since. With --encrypt or --no-encrypt the\n"
        "copy is made through the key, which must be here; with --new-key it gets another one, made here, since the\n"
        "first one may be known to others. Keep a copy of it: perdure key export.",
        [
            "perdure copy jobs/ sqlite:///jobs.db",
            "perdure copy sqlite:///jobs.db postgresql://me@host/jobs",
            "perdure copy jobs/ sqlite:///secret.db --encrypt",
            "perdure copy sqlite:///secret.db sqlite:///again.db --new-key",
        ],
    ),
}
