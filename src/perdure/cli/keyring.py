"""The verb `key`: the keys that stores are sealed with, shown by name, exported and imported as files, and replaced.

- A secret is never printed.
"""

from __future__ import annotations

import argparse
import os
import sys

from perdure.backends.urls import without_password
from perdure.cli.looking import print_json
from perdure.cli.options import (
    KEY_VARIABLE,
    STORE_VARIABLE,
    Command,
    Parser,
    add_json,
    add_store,
    open_store,
    store_url,
)
from perdure.cli.progress import progress_bar
from perdure.errors import FlowError, NotFound
from perdure.keys import KeyRing, read_key_file, write_key_file
from perdure.objects.stores import make_store
from perdure.records.seal import Key
from perdure.upkeep.restoring import copy_store


def _arguments(parser: Parser) -> None:
    parser.add_argument("action", choices=["show", "export", "import", "rotate"], help="what to do")
    parser.add_argument(
        "file", metavar="FILE|URL", nargs="?", help="the key file to write or to read; rotate: where the store goes to"
    )
    parser.add_argument("--name", metavar="KEY", help="export: the key of that name, instead of the store's")
    add_store(parser)
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """`perdure key`."""
    if (options.action == "show") != (options.file is None):
        needed = "the URL of a new place" if options.action == "rotate" else "a FILE"
        told = "takes no FILE" if options.action == "show" else f"needs {needed}"
        raise FlowError(f"perdure key {options.action} {told}.")
    if options.action == "show":
        return _show(options)
    if options.action == "import":
        key = read_key_file(options.file)
        KeyRing().add(key)
        print(f"The key {key.name} is among your keys now.", file=sys.stderr)
        return 0
    if options.action == "rotate":
        return _rotate(options)
    key = _chosen(options)
    write_key_file(options.file, key)
    print(
        f"The key {key.name} is in {options.file}. Who has it can seal records that you would trust: keep it safe.",
        file=sys.stderr,
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    ring = KeyRing()
    names = ring.names()
    needed = _store_key(options)[0] if options.store or os.environ.get(STORE_VARIABLE) else None
    if options.json:
        print_json({"directory": str(ring.directory), "keys": names, "store": needed})
        return 0
    for name in names:
        print(f"{name}{'  (the key of the store)' if name == needed else ''}")
    if not names:
        print("There is no key yet: the first store makes one.", file=sys.stderr)
    if needed is not None and needed not in names:
        print(f"perdure: The store's key {needed} is not among them.", file=sys.stderr)
    print(f"They are kept in {ring.directory}", file=sys.stderr)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    """A copy under a key of its own: a key that others have come to know seals for them as well, in the past too."""
    source, key_file = store_url(options), os.environ.get(KEY_VARIABLE) or None
    with progress_bar("record") as progress:
        done = copy_store(source, options.file, key=key_file, new_key=True, progress=progress)
    with make_store(options.file, read_only=True) as store:
        name = f"{store.backend.describe().key:08x}"
    if options.json:
        print_json({**done._asdict(), "key": name})
        return 0
    print(
        f"{without_password(options.file)} is {without_password(source)} up to revision {done.revision}, every record"
        f" sealed anew with the key {name}, which is among your keys."
    )
    print(
        f"Let your programs use it from now on, keep a copy of its key (perdure key export FILE --name {name}), and"
        " remove the old store, its backups and its key when nobody needs them any more.",
        file=sys.stderr,
    )
    return 0


def _chosen(options: argparse.Namespace) -> Key:
    """The key to export: by its name, or the store's, or the only one."""
    ring = KeyRing()
    if options.name is not None:
        if options.name not in ring.names():
            raise NotFound(f"There is no key {options.name!r} here.", hint="perdure key show lists them.")
        return ring.require(int(options.name, 16))
    if options.store or os.environ.get(STORE_VARIABLE):
        name, key = _store_key(options)
        return key or ring.require(int(name, 16))
    names = ring.names()
    if len(names) != 1:
        raise NotFound(
            f"There are {len(names)} keys here." if names else "There is no key here yet.",
            hint="Say whose key it is: --store URL or --name KEY." if names else "The first store makes one.",
        )
    return ring.require(int(names[0], 16))


def _store_key(options: argparse.Namespace) -> tuple[str, Key | None]:
    with open_store(options, read_only=True) as store:
        return f"{store.backend.describe().key:08x}", store.key


COMMANDS = {
    "key": Command(
        _arguments,
        call,
        "Every record is sealed with its store's key, which is made with the store and kept among your own. To open the"
        "\nstore on another machine, export its key here and import it there. If others may know it, rotate: the store"
        "\nis copied with its history to a new place, each record sealed anew with a new key.",
        [
            "perdure key show",
            "perdure key export survey.key --store sqlite:///survey.db",
            "perdure key import survey.key",
            "perdure key rotate sqlite:///again.db --store sqlite:///survey.db",
        ],
    ),
}
