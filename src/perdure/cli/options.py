"""What the verbs have in common on the command line: parsing, and opening the store.

- The environment is read here and nowhere below: `PERDURE_STORE`, `PERDURE_KEY_FILE`; and `[tool.perdure]`.
- Only `run` makes a store that is not there; the verbs that only look open it for reading only.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from perdure.errors import FlowError, NotFound
from perdure.objects.store import Store
from perdure.objects.stores import make_store

_DIGITS = 18  # of a number that every store takes
STORE_VARIABLE = "PERDURE_STORE"
KEY_VARIABLE = "PERDURE_KEY_FILE"
_LIMITS = ("recorded", "commits", "off")  # a file can limit what is kept; that archived code runs, it cannot say


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message[:1].upper()}{message[1:]}. How it is used: {self.prog} -h\n")


class Command(NamedTuple):
    """A verb: what it takes, what it does, and how it is used."""

    arguments: Callable[[Parser], None]
    call: Callable[[argparse.Namespace], int]
    text: str
    examples: Sequence[str]
    intermixed: bool = False

    def parse(self, verb: str, does: str, words: list[str]) -> argparse.Namespace:
        """The options that the words give; exits with a sentence if they do not fit."""
        parser = Parser(
            prog=f"perdure {verb}",
            description=f"{does[:1].upper()}{does[1:]}.\n\n{self.text}".strip(),
            epilog="examples:\n" + "\n".join(f"  {example}" for example in self.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.arguments(parser)
        for place in reversed(range(len(words) - 1)):
            if words[place] == "--order":  # its value may begin with a hyphen
                words = [*words[:place], f"--order={words[place + 1]}", *words[place + 2 :]]
        return parser.parse_intermixed_args(words) if self.intermixed else parser.parse_args(words)


def whole_number(word: str) -> int:
    """A number from 0 on; raises argparse's error for anything else."""
    if not (word.isascii() and word.isdecimal() and len(word) <= _DIGITS):
        raise argparse.ArgumentTypeError(f"{word!r:.40} is no number from 0 on")
    return int(word)


def add_store(parser: Parser) -> None:
    """`--store URL`."""
    parser.add_argument(
        "--store",
        metavar="URL",
        help=f"the store: sqlite:///jobs.db, or a directory; by default what {STORE_VARIABLE} says",
    )


def add_json(parser: Parser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON; times are seconds since 1970 (UTC)")


def store_url(options: argparse.Namespace) -> str:
    """The URL that the options or the environment name."""
    url: str | None = options.store or os.environ.get(STORE_VARIABLE)
    if not url:
        raise NotFound(
            "No store is named.", hint=f"Give --store URL (for example sqlite:///jobs.db) or set {STORE_VARIABLE}."
        )
    return url


def open_store(
    options: argparse.Namespace, *, read_only: bool = False, create: bool = False, code: str | None = None
) -> Store:
    """The store that the options or the environment name; `code` as the project's settings say, if it is not given."""
    url = store_url(options)
    key_file = os.environ.get(KEY_VARIABLE) or None
    store: Any = make_store(url, key=key_file, read_only=read_only, create=create, code=code or _code_setting())
    if not isinstance(store, Store):
        raise FlowError(f"{url} is kept by {type(store).__name__}, which is no perdure.Store.")
    return store


def _code_setting() -> str:
    """What `code` in `[tool.perdure]` says, in the nearest `pyproject.toml` of this directory and those above it."""
    for place in (Path.cwd(), *Path.cwd().parents):
        file = place / "pyproject.toml"
        if not file.is_file():
            continue
        import tomllib  # only who has such a file pays for it

        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("perdure", {})
        except (OSError, ValueError, AttributeError) as error:
            raise FlowError(f"{file} cannot be read: {error}.", hint="[tool.perdure] in it may say: code.") from error
        code = settings.get("code", "recorded") if isinstance(settings, dict) else settings
        if code not in _LIMITS:
            choices = ", ".join(map(repr, _LIMITS))
            raise FlowError(f"[tool.perdure] in {file} says code = {code!r}.", hint=f"There are: {choices}.")
        return str(code)
    return "recorded"


def command_line(options: argparse.Namespace, *words: str) -> str:
    """A command that the user can type next, for the same store."""
    given = ["--store", options.store] if options.store else []
    return shlex.join(["perdure", *words, *given])
