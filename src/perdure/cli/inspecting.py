"""The verb that looks into one record, or a file of pickles: `inspect`."""

from __future__ import annotations

import argparse
import os
from itertools import islice

from perdure.cli.options import Command, Parser, add_store, open_store, whole_number
from perdure.errors import NotFound
from perdure.ids import is_id, parse_id
from perdure.objects.looking import inspect_record
from perdure.pickling.own.inspecting import MOST_LINES, Inspection, inspect

FINE, FAULTS = 0, 3


def _arguments(parser: Parser) -> None:
    parser.add_argument("what", metavar="ID|FILE", help="the id of an object in the store; or a file")
    parser.add_argument(
        "--lines",
        type=whole_number,
        default=MOST_LINES,
        metavar="N",
        help=f"how many are printed ({MOST_LINES}); 0: all",
    )
    add_store(parser)


def call_inspect(options: argparse.Namespace) -> int:
    """`perdure inspect`."""
    found = _found(options)
    lines = found.lines()
    for line in lines if not options.lines else islice(lines, options.lines):
        print(line)
    if options.lines and next(lines, None) is not None:
        print("… (all of it: --lines 0)")
    return FAULTS if found.problem else FINE


def _found(options: argparse.Namespace) -> Inspection:
    if os.path.exists(options.what):
        try:
            with open(options.what, "rb") as file:
                return inspect(file.read())
        except OSError as error:
            raise NotFound(f"{options.what} cannot be read: {error.strerror}.", hint="Give a file.") from error
    if not is_id(options.what):
        raise NotFound(
            f"There is no file {options.what!r}, and it is no id.",
            hint="An id looks like Job.17; `perdure ls` lists them.",
        )
    id_ = parse_id(options.what)
    with open_store(options, read_only=True) as store:
        return inspect_record(store.backend, id_, store.key)


COMMANDS = {
    "inspect": Command(
        _arguments,
        call_inspect,
        "Nothing of it is unpickled, imported or executed, whatever it holds. What loading it would call stands at the"
        "\nend, with what perdure's own reader knows of it. Files need not be perdure's: any pickle will do.",
        ["perdure inspect User.1 --store sqlite:///shop.db", "perdure inspect model.pkl"],
    ),
}
