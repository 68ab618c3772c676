"""The verb `diff`: what changed in the code between two attempts, two code records, or one and what is here now.

- Nothing is imported: what is here now is read, as an import would find it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from perdure.cli.codes import single_code
from perdure.cli.options import Command, Parser, add_store, open_store
from perdure.cli.reading import JOB, LAST, AttemptRow, Reader
from perdure.cli.terminal import clean, has_colours, painted
from perdure.code.archives import Archive
from perdure.code.capture import capture
from perdure.code.diffs import differing_modules
from perdure.code.git import find_repository
from perdure.code.modules import module_root
from perdure.code.values import UNKNOWN, CodeState, changes_between
from perdure.errors import FlowError, NotFound
from perdure.objects.payloads.codes import read_code
from perdure.objects.store import Store
from perdure.records.frame import decoder
from perdure.upkeep.codes import ATTEMPT, codes_below

NOW = "now"


def _arguments(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="of a run, a job, an object or a code record; or: last")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="the later one; by default the code that is here now")
    parser.add_argument("--attempts", nargs=2, type=int, metavar=("N", "M"), help="of a job: two of its attempts")
    add_store(parser)


def call(options: argparse.Namespace) -> int:
    """`perdure diff`."""
    if options.attempts and options.other:
        raise FlowError("--attempts tells which two to compare: leave out OTHER.")
    with open_store(options, read_only=True) as store:
        reader = Reader(store)
        id_ = reader.run_record(LAST).id if options.id == LAST else options.id
        decode = decoder(store.key)
        if options.attempts:
            first, second = (_attempt_code(reader, id_, number) for number in options.attempts)
            pairs = [(first, second)]
        elif options.other:
            pairs = [(single_code(store, id_), single_code(store, options.other))]
        else:
            pairs = [(code, "") for code in _last_codes(store, reader, id_)]
        for old, new in pairs:
            before = read_code(store.backend, decode, old).archive()
            after = read_code(store.backend, decode, new).archive() if new else _now(before.state)
            _print(before, after)
    return 0


def _last_codes(store: Store, reader: Reader, id_: str) -> list[str]:
    """The code of an object; of a run or a job, that of the last attempt of each job."""
    record = reader.one(id_)
    if record.class_name == "perdure:Run":
        row = reader.run(record)
        attempts = reader.attempts(reader.jobs(record, row), alive=row.alive)
    elif record.class_name == JOB:
        attempts = reader.attempts([reader.job(record, alive=True)], alive=True)
    else:
        return [single_code(store, id_)]
    ids = [found[-1].id for found in attempts.values() if found]
    codes = codes_below(store.backend, reader.read(ids, ATTEMPT))
    if not codes:
        raise NotFound(f"No attempt of {id_} tells its code.", ids=(id_,))
    return codes


def _attempt_code(reader: Reader, id_: str, number: int) -> str:
    record = reader.one(id_)
    if record.class_name != JOB:
        raise FlowError(f"--attempts are those of a job, and {id_} is none.", hint="perdure show RUN lists the jobs.")
    found: list[AttemptRow] = reader.attempts([reader.job(record, alive=True)], alive=True)[id_]
    row = next((attempt for attempt in found if attempt.number == number), None)
    codes = codes_below(reader.backend, reader.read([row.id], ATTEMPT)) if row is not None else []
    if not codes:
        raise NotFound(f"{id_} has no attempt {number} that tells its code: there are {len(found)}.", ids=(id_,))
    return codes[0]


def _now(before: CodeState) -> Archive:
    """The same modules as they are here: found from this directory, and from where they were in the repository."""
    here = os.getcwd()
    repository = find_repository(os.path.realpath(here))
    top = here if repository is None else repository.root
    roots = [os.path.join(top, root) for module in before.modules if (root := module_root(module)) is not None]
    kept = list(sys.path)
    sys.path[:0] = dict.fromkeys([*roots, here])
    try:
        state = capture([module.name for module in before.modules])
    finally:
        sys.path[:] = kept
    there = [module for module in state.modules if module.origin != UNKNOWN]
    plain = {**state.as_plain(), "modules": [each._asdict() for each in there]}
    return Archive(NOW, CodeState.from_plain(plain), state.texts.get)


def _print(before: Archive, after: Archive) -> None:
    print(painted(f"{before.name} → {after.name}", "bold"))
    modules = differing_modules(before, after)
    names = {f"{module.path}: {module.what}" for module in modules}
    others = [line for line in changes_between(before.state, after.state) if line not in names]
    for line in others:
        print(f"  {clean(line)}")
    if not modules:
        print("  no module has changed")
    for module in modules:
        told = f": {', '.join(map(clean, module.definitions))}" if module.definitions else ""
        print(f"\n{painted(clean(module.path), 'bold')} {module.what}{told}")
        print("\n".join(_coloured(module.lines)))


def _coloured(lines: Iterable[str]) -> Iterable[str]:
    colours = {"+": "green", "-": "red", "@": "cyan"} if has_colours(sys.stdout) else {}
    for line in lines:
        text = "".join(c if c.isprintable() or c == "\t" else "�" for c in line)
        yield painted(text, colours.get(line[:1], ""))


COMMANDS = {
    "diff": Command(
        _arguments,
        call,
        "Of a run or a job: between the last attempt of each job and the code that is here. Functions and classes\n"
        "that changed are named, then the lines follow. Nothing is imported.",
        [
            "perdure diff last --store sqlite:///survey.db",
            "perdure diff Job.7 --attempts 1 2",
            "perdure diff Order.1 Order.9",
        ],
    ),
}
