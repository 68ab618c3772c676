"""The verb `prevalence`: looks through the directory of a prevalent system, repairs it, lists its commands; standbys.

- Nothing of the system is imported or unpickled, but by a standby.
- Exit status 3 where something is wrong that costs commands, or that stops the system from being opened.
"""

from __future__ import annotations

import argparse
import os

from perdure.cli.looking import print_json
from perdure.cli.options import KEY_VARIABLE, Command, Parser, add_json
from perdure.cli.standbys import promote, stand_by
from perdure.cli.terminal import clean, counted, moment, table
from perdure.errors import InvalidArgument, KeyMissing
from perdure.files import Files
from perdure.keys import KeyRing, read_key_file
from perdure.objects.stores import make_store
from perdure.prevalence.folder import Folder
from perdure.prevalence.inspecting import Told, commands_of, verify
from perdure.prevalence.repairing import repair
from perdure.prevalence.stored import StoreDisk
from perdure.records.seal import Key

SHOWN = 20


def _arguments(parser: Parser) -> None:
    parser.add_argument("action", choices=["verify", "repair", "log", "standby", "promote"], help="what to do")
    parser.add_argument(
        "directory", metavar="DIR", help="the directory of the system, or the URL of the store it is in"
    )
    parser.add_argument("--name", default="system", help="of a system in a store (system)")
    parser.add_argument("--yes", action="store_true", help="repair: do it, instead of only saying what would be done")
    parser.add_argument("--limit", type=int, default=SHOWN, metavar="N", help=f"log: the last N commands ({SHOWN})")
    parser.add_argument("--all", action="store_true", help="log: every command that there is")
    parser.add_argument(
        "--of", metavar="WRITER", help="standby: the writer's address, or its directory on this machine"
    )
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """`perdure prevalence`."""
    if options.action == "standby":
        return stand_by(options.directory, options.of)
    if "://" in options.directory:
        return _call_in_store(options)
    folder = Folder(options.directory, Files())
    folder.identify()
    key = _key(folder)
    if options.action == "promote":
        return promote(folder, key)
    if options.action == "verify":
        return _verify(folder, key, options)
    return _repair(folder, key, options) if options.action == "repair" else _log(folder, key, options)


def _call_in_store(options: argparse.Namespace) -> int:
    if options.action not in ("verify", "log"):
        raise InvalidArgument(
            f"{options.action} is for a system in a directory.", hint="verify and log look into a store."
        )
    with make_store(options.directory, create=False, read_only=True, code="off") as store:
        disk = StoreDisk(store, options.name)
        folder = Folder(disk.place, Files(disk))
        folder.identify()
        return (_verify if options.action == "verify" else _log)(folder, store.key, options)


def _key(folder: Folder) -> Key | None:
    """The system's key, if it is here: without it, checksums are all that can be looked at."""
    file = os.environ.get(KEY_VARIABLE)
    key = read_key_file(file) if file else KeyRing().get(folder.key_id)
    if key is not None and key.id != folder.key_id:
        raise KeyMissing(
            f"The system is sealed with the key {folder.key_id:08x}; {KEY_VARIABLE} names the key {key.name}.",
            hint="Take the key in with: perdure key import FILE",
        )
    return key


def _verify(folder: Folder, key: Key | None, options: argparse.Namespace) -> int:
    found = verify(folder, key)
    stops = any(wrong.lost for wrong in found.wrong)
    if options.json:
        print_json({**found._asdict(), "wrong": [wrong._asdict() for wrong in found.wrong], "sealed": key is not None})
        return 3 if stops else 0
    if key is None:
        print("The key is not here, so checksums were looked at, and no seals.")
    print(f"{counted(len(found.snapshots), 'good snapshot')}, {counted(found.journals, 'journal file')}.")
    if found.base >= 0:
        print(f"Command {found.last} is the newest that can be had, from the snapshot after command {found.base}.")
    for wrong in found.wrong:
        place = f"{clean(wrong.path)}, byte {wrong.offset}" if wrong.offset else clean(wrong.path)
        print(f"{place}: {clean(wrong.text)}")
    print("Something is lost: perdure prevalence repair says what can be kept." if stops else "Nothing is lost.")
    return 3 if stops else 0


def _repair(folder: Folder, key: Key | None, options: argparse.Namespace) -> int:
    with folder.writing(0.0):
        done = repair(folder, key, dry_run=not options.yes)
    if options.json:
        print_json(done._asdict())
        return 0
    if not done.aside:
        print("Nothing has to be done.")
        return 0
    is_, would = ("is", "") if options.yes else ("would be", "would ")
    if done.cut is not None:
        end = "end" if would else "ends"
        print(f"{clean(done.cut[0])} {would}{end} at byte {done.cut[1]}; as it was, it {is_} put into {done.aside}.")
    for path in done.moved:
        print(f"{clean(path)} {is_} moved into {done.aside}.")
    print(f"The system {would or 'now '}{'open' if would else 'opens'} after command {done.last}.")
    if would:
        print("To do it: --yes")
    return 0


def _log(folder: Folder, key: Key | None, options: argparse.Namespace) -> int:
    told = list(commands_of(folder, key))
    shown = told if options.all else told[max(len(told) - max(options.limit, 0), 0) :]
    if options.json:
        print_json([{**each._asdict(), "arguments": _spelled(each)} for each in shown])
        return 0
    if not shown:
        print("No command is in the journal.")
        return 0
    rows = [
        [
            each.sequence,
            moment(each.time),
            each.name.rpartition(":")[2],
            _spelled(each),
            "raised" if each.raised else "",
        ]
        for each in shown
    ]
    print("\n".join(table(["COMMAND", "TIME", "NAME", "ARGUMENTS", "OUTCOME"], rows, give=("ARGUMENTS",))))
    return 0


def _spelled(told: Told) -> str:
    if told.arguments is None:
        return f"({told.bytes} bytes)"
    if isinstance(told.arguments, dict):
        return ", ".join(f"{name}={value!r}" for name, value in told.arguments.items())
    values = told.arguments if isinstance(told.arguments, tuple) else (told.arguments,)
    return ", ".join(map(repr, values))


COMMANDS = {
    "prevalence": Command(
        _arguments,
        call,
        "verify looks through every file and says what is wrong, with file and byte. repair makes a directory that"
        "\ndoes not open one that does: what is damaged is put aside, never thrown away. log lists the commands in the"
        "\njournal. Nothing of the system is imported or unpickled for these. standby follows a system that is served,"
        "\nuntil Ctrl-C, and keeps a copy in DIR; promote makes that copy the writer's, when no process has it open.",
        [
            "perdure prevalence verify tasks/",
            "perdure prevalence repair tasks/",
            "perdure prevalence repair tasks/ --yes",
            "perdure prevalence log tasks/ --limit 50",
            "perdure prevalence standby copy/ --of 10.0.0.1:7007",
            "perdure prevalence promote copy/",
        ],
    ),
}
