"""The verb `code`: shows which code made something, and has its texts forgotten.

- Only code records with a good seal are opened. Nothing is imported, and nothing of the user's is unpickled.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from perdure.cli.looking import print_json
from perdure.cli.options import Command, Parser, add_json, add_store, open_store
from perdure.cli.reading import LAST, Reader
from perdure.cli.terminal import clean, counted, painted, table
from perdure.code.sources import NO_TEXT
from perdure.code.values import ModuleCode, RepositoryState
from perdure.errors import FlowError, NotFound
from perdure.objects.payloads.codes import StoredCode, read_code
from perdure.objects.store import Store
from perdure.records.frame import decoder
from perdure.upkeep.codes import code_ids, forget_texts

FILES_SHOWN = 20


def _arguments(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="of an object, a run, a job or a code record; or: last")
    parser.add_argument("--text", metavar="MODULE", help="print the text of that module, and nothing else")
    parser.add_argument("--forget", action="store_true", help="erase the texts, from history and files too")
    parser.add_argument("--dry-run", action="store_true", help="with --forget: only say what would be erased")
    add_store(parser)
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """`perdure code`."""
    if options.dry_run and not options.forget:
        raise FlowError("--dry-run goes with --forget.")
    with open_store(options, read_only=not options.forget or options.dry_run) as store:
        id_ = Reader(store).run_record(LAST).id if options.id == LAST else options.id
        ids = code_ids(store.backend, id_)
        if not ids:
            raise NotFound(f"No code record belongs to {id_}.", hint="It was saved with code='off'.", ids=(id_,))
        decode = decoder(store.key)
        codes = [read_code(store.backend, decode, code) for code in ids]
        if options.text:
            return _print_text(codes, options.text)
        if options.forget:
            sources = {source for code in codes for source in code.sources.values()}
            done = sorted(sources) if options.dry_run else forget_texts(store, ids)
            does = "would be erased" if options.dry_run else "erased"
            print(f"{counted(len(done), 'text')} {does}: {', '.join(done) or 'there was none'}.")
            return 0
        if options.json:
            print_json([_plain(code) for code in codes])
            return 0
        for place, code in enumerate(codes):
            if place:
                print()
            _print(code)
    return 0


def single_code(store: Store, id_: str) -> str:
    """The one code record that belongs to an id; raises a sentence if there is none, or several."""
    ids = code_ids(store.backend, id_)
    if len(ids) != 1:
        told = f"{len(ids)} code records: {', '.join(ids)}" if ids else "no code record"
        raise NotFound(f"{id_} has {told}.", hint="Give the id of one.", ids=(id_,))
    return ids[0]


def _print_text(codes: list[StoredCode], name: str) -> int:
    gone = ""
    for code in codes:
        module = code.state.module(name)
        text = None if module is None else code.archive().text(module)
        if text is not None:
            sys.stdout.write(text)
            return 0
        if module is not None:
            gone = f"The text of {name!r} in {code.id} is {_text(code, module)}."
    if gone:
        raise NotFound(gone, hint="Start in the repository that it was committed to, if there is one.")
    raise NotFound(
        f"The text of {name!r} is not in {', '.join(code.id for code in codes)}.",
        hint=f"There are: {', '.join(sorted({module.name for code in codes for module in code.state.modules}))}.",
    )


def _print(code: StoredCode) -> None:
    state = code.state
    print(f"{painted(code.id, 'bold')}  {clean(state.summary())}")
    print(f"  {clean(state.python)}, {clean(state.platform)}")
    for number, repository in enumerate(state.repositories):
        _print_repository(number, repository)
    for lock in state.locks:
        pinned = len((code.text_of(lock.digest) or "").splitlines())
        print(f"  environment pinned by {clean(lock.path)} ({lock.kind}, {counted(pinned, 'package')})")
    if state.packages:
        print(f"  packages: {clean(', '.join(' '.join(package) for package in state.packages))}")
    if state.modules:
        cells = [[each.name, each.path, each.origin, _told(each), _text(code, each)] for each in state.modules]
        print("\n".join(table(["MODULE", "FILE", "FROM", "CHANGED", "TEXT"], cells, give=("FILE",), indent="  ")))


def _print_repository(number: int, repository: RepositoryState) -> None:
    tree = f", tree {repository.tree[:7]}" if repository.tree else ""
    print(f"  repository {number + 1}: commit {repository.commit or '(none yet)'}{tree}")
    more = repository.more + max(0, len(repository.files) - FILES_SHOWN)
    names = [*map(clean, repository.files[:FILES_SHOWN]), *([f"and {more} more"] if more else [])]
    if names:
        print(f"    changed files: {', '.join(names)}")


def _told(module: ModuleCode) -> str:
    changed = "" if module.changed is None else "yes" if module.changed else "no"
    return changed if module.exact else f"{changed}, edited after its import".lstrip(", ")


def _text(code: StoredCode, module: ModuleCode) -> str:
    if module.digest in code.sources:
        return code.sources[module.digest]
    if module.digest == NO_TEXT:
        return "empty"
    return "erased" if module.digest in code.erased else "not kept"


def _plain(code: StoredCode) -> dict[str, Any]:
    return {"id": code.id, "summary": code.state.summary(), **code.state.as_plain(), "texts": dict(code.sources),
            "erased": list(code.erased)}  # fmt: skip


COMMANDS = {
    "code": Command(
        _arguments,
        call,
        "Of an object: the code that saved it. Of a run or a job: the code of each of its attempts. With --forget the\n"
        "texts are erased, also from other code records that have the same ones; commits and digests stay.",
        [
            "perdure code User.1 --store sqlite:///shop.db",
            "perdure code last --text survey",
            "perdure code Code.7 --forget --dry-run",
        ],
    ),
}
