"""The command line, `perdure VERB …`: parses, calls one function, shows.

- What a verb does not need is not imported: each verb's module is imported when it is called.
- Every wrong use is one clear sentence on stderr. A traceback is a bug of perdure.
- Exit status: 0 fine; 1 the run failed; 2 wrong use; 3 the store or its data is at fault; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from perdure.errors import (
    FlowError,
    InvalidArgument,
    InvalidId,
    InvalidRename,
    NotFound,
    PerdureError,
    RunFailed,
    StoreNotFound,
    UnknownScheme,
)

FINE, RUN_FAILED, WRONG_USE, STORE_AT_FAULT, CTRL_C = 0, 1, 2, 3, 130

# Each verb: the module it is in, and what it does.
_VERBS = {
    "run": ("perdure.cli.running", "run a flow; its history is kept in a store"),
    "runs": ("perdure.cli.looking", "list runs, the newest first"),
    "show": ("perdure.cli.looking", "show one run: its jobs, what failed and why"),
    "rerun": ("perdure.cli.running", "run again what failed, and what depends on it"),
    "resume": ("perdure.cli.running", "go on with a run that was cut off or cancelled"),
    "history": ("perdure.cli.listing", "show every stored version of an object, every attempt of a run or job"),
    "ls": ("perdure.cli.listing", "list the objects of a store"),
    "inspect": ("perdure.cli.inspecting", "show what is in a record, or in a file of pickles, without loading it"),
    "export": ("perdure.cli.tables", "write fields of objects as CSV; or objects with their code as a bundle"),
    "import": ("perdure.cli.bundling", "look at a bundle, or take it into the store"),
    "reindex": ("perdure.cli.tables", "bring a full store to the index that a class has now"),
    "code": ("perdure.cli.codes", "show which code made something; have its texts forgotten"),
    "diff": ("perdure.cli.diff", "show what changed in the code between two attempts, or since one"),
    "upgrade": ("perdure.cli.evolving", "bring all records to their classes as they are now"),
    "plan": ("perdure.cli.evolving", "count records by class, version and attributes"),
    "log": ("perdure.cli.keeping", "list the commits of a store, the newest first"),
    "rename": ("perdure.cli.renaming", "change names of classes and modules, in a store or a file of pickles"),
    "undo": ("perdure.cli.keeping", "take back one commit"),
    "pack": ("perdure.cli.keeping", "forget the past of a store, but for what is to be kept"),
    "collect": ("perdure.cli.keeping", "remove what nothing refers to any more"),
    "forget": ("perdure.cli.keeping", "remove an object for good, also from history"),
    "backup": ("perdure.cli.safekeeping", "write a store with its history into one file, or what came since"),
    "restore": ("perdure.cli.safekeeping", "make a store from a backup"),
    "check": ("perdure.cli.safekeeping", "look through a whole store for anything that is not as it must be"),
    "repair": ("perdure.cli.safekeeping", "put right what can be put right without guessing"),
    "copy": ("perdure.cli.safekeeping", "copy a store with its history to another place, of whichever kind"),
    "key": ("perdure.cli.keyring", "show, export, import or replace the keys that stores are sealed with"),
    "prevalence": ("perdure.cli.prevalent", "look through a prevalent system, repair it, list its commands; standbys"),
    "demo": ("perdure.cli.demo", "see a flow fail, be mended and run again, in a minute, on real files"),
}
VERBS = tuple(_VERBS)

_HELP = """\
usage: perdure VERB …

Save any object once, load it for ever; run any job once, re-run it exactly.

{verbs}

  perdure VERB -h       explains a verb
  perdure --version     tells the release

A first look:
  perdure demo
  perdure run survey.py survey src/*.py --store sqlite:///survey.db
  perdure show last --store sqlite:///survey.db

The store is given with --store or in PERDURE_STORE: sqlite:///jobs.db, or a directory. PERDURE_KEY_FILE names the
store's key file where it is not among your own keys.

Exit status: 0 fine; 1 the run failed; 2 wrong use; 3 the store or its data is at fault; 130 Ctrl-C."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words (by default those of the command line) say; gives the exit status."""
    try:
        status = _call(list(sys.argv[1:] if words is None else words))
        sys.stdout.flush()
    except PerdureError as error:
        print(f"perdure: {error}", file=sys.stderr)
        return _status(error)
    except KeyboardInterrupt:
        print("perdure: stopped by Ctrl-C.", file=sys.stderr)
        return CTRL_C
    except BrokenPipeError:
        _say_no_more()  # who reads has seen enough (`perdure runs | head`)
        return FINE
    except OSError as error:
        if error.filename is not None:
            raise
        _say_no_more()
        print(f"perdure: What it found cannot be written: {error.strerror}.", file=sys.stderr)
        return STORE_AT_FAULT
    return status


def _say_no_more() -> None:
    """Nothing may be written at the interpreter's end either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _call(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP.format(verbs="\n".join(f"  {verb:<10} {does}" for verb, (_, does) in _VERBS.items())))
        return FINE if words else WRONG_USE
    if words[0] in ("--version", "-V"):
        import perdure

        print(f"perdure {perdure.__version__}")
        return FINE
    verb, *rest = words
    if verb not in _VERBS:
        return _unknown(verb)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    module, does = _VERBS[verb]
    command = import_module(module).COMMANDS[verb]
    status: int = command.call(command.parse(verb, does, rest))
    return status


def _unknown(verb: str) -> int:
    if verb.startswith("-"):
        told = "The verb comes first, then its options: perdure VERB …"
    else:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, 1)
        told = f"There is no verb {verb!r}. " + (f"Did you mean {near[0]!r}?" if near else "")
    print(f"perdure: {told.strip()} The verbs are: {', '.join(VERBS)}.", file=sys.stderr)
    return WRONG_USE


def _status(error: PerdureError) -> int:
    if isinstance(error, RunFailed):
        return RUN_FAILED
    wrong_use = isinstance(error, (FlowError, InvalidArgument, InvalidId, InvalidRename, NotFound, UnknownScheme))
    return WRONG_USE if wrong_use and not isinstance(error, StoreNotFound) else STORE_AT_FAULT
