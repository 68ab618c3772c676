"""What `rerun --code recorded` takes, and what it says of the code before it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from perdure.cli.options import Parser
from perdure.cli.terminal import clean, painted
from perdure.errors import FlowError
from perdure.flows.recorded import EXACT, Match

_COLOURS = {EXACT: "green"}


def add_recorded(parser: Parser) -> None:
    """`--code recorded`, `--environment recorded`."""
    parser.add_argument("--code", choices=["recorded"], help="run with the code that each job ran with last")
    parser.add_argument(
        "--environment",
        choices=["recorded"],
        help="with --code recorded: make its environment anew with uv, which downloads",
    )


def check_recorded(options: argparse.Namespace) -> None:
    """Raise a sentence for options that do not go together."""
    if options.environment and not options.code:
        raise FlowError("--environment recorded goes with --code recorded.")
    if options.code and options.executor == "inline":
        raise FlowError("Recorded code runs in processes of its own: leave out --executor inline.")
    if options.code and options.file:
        raise FlowError("--file names code that is here: leave it out with --code recorded.")


def tell_matches(matches: Mapping[str, Match]) -> None:
    """How close the recorded code comes, and what is not the same."""
    for id_, found in matches.items():
        level = painted(found.level, _COLOURS.get(found.level, "yellow"), sys.stderr)
        print(f"{id_} ({clean(found.state.summary())}): {level}", file=sys.stderr)
        for note in found.notes:
            print(f"  {clean(note)}", file=sys.stderr)
