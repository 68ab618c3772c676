"""What a code record says, as frozen values of plain data.

- Equal code has an equal `digest`, in every process and on every machine; texts enter it by their own digests.
- No value holds an absolute path, a remote address, a user name or an environment variable.
- Modules are sorted by name, repositories by their first module, packages by name.
- `None` as an answer to "changed?" means unknown: no repository, no git here, or git refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

FILE = "file"  # the text of a source file
INTERACTIVE = "interactive"  # typed at a prompt or in a notebook
BY_VALUE = "value"  # typed without source: pickled by value, as byte code
BINARY = "binary"  # compiled code without source: a digest, no text
UNKNOWN = "unknown"  # the module is named, but its source is not to be had

_NAMES_SHOWN = 4


class ModuleCode(NamedTuple):
    """One of the user's own modules, as this process has imported it.

    `path` is relative to the root of `repository` (an index into `CodeState.repositories`) or, where there is none, to
    the entry of `sys.path`. `changed`: differs from the commit, or is not in it. `exact` is false where the file was
    edited after its import and before the first capture, so that the text is the file's and not quite what ran.
    `uses` are the captured modules that this one imports.
    """

    name: str
    path: str
    digest: str
    origin: str = FILE
    exact: bool = True
    repository: int | None = None
    changed: bool | None = None
    uses: tuple[str, ...] = ()


class RepositoryState(NamedTuple):
    """A git repository: its commit ("" before the first), and whether tracked files differ from that.

    `tree` is the commit's tree. `files` are tracked files that differ, as paths from the root; `more` counts those that
    are not named.
    """

    commit: str
    changed: bool | None = None
    tree: str = ""
    files: tuple[str, ...] = ()
    more: int = 0


class LockFile(NamedTuple):
    """What pins the environment: `kind` is `uv.lock`, `pylock.toml` or `script`; `digest` is of what is kept of it.

    `path` is from the root of the repository, or from the entry of `sys.path`.
    """

    kind: str
    path: str
    digest: str


class _Facts(NamedTuple):
    modules: tuple[ModuleCode, ...]
    repositories: tuple[RepositoryState, ...]
    python: str
    platform: str
    packages: tuple[tuple[str, str], ...]
    locks: tuple[LockFile, ...]
    texts: Mapping[str, str]
    digest: str


class CodeState(_Facts):
    """Which code ran, and with what. `texts` maps digests to source texts and takes no part in digest and equality."""

    __slots__ = ()

    def __new__(
        cls,
        modules: Iterable[ModuleCode] = (),
        repositories: Iterable[RepositoryState] = (),
        python: str = "",
        platform: str = "",
        packages: Iterable[tuple[str, str]] = (),
        locks: Iterable[LockFile] = (),
        texts: Mapping[str, str] | None = None,
    ) -> CodeState:
        facts = (tuple(modules), tuple(repositories), python, platform, tuple(packages), tuple(locks))
        self = super().__new__(cls, *facts, texts or {}, "")
        return super().__new__(cls, *facts, texts or {}, _digest(self.as_plain()))

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, CodeState) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return CodeState, tuple(self[:-1])  # the digest is computed anew

    def __repr__(self) -> str:
        return f"<CodeState {self.digest[:12]}: {self.summary()}>"

    def as_plain(self) -> dict[str, Any]:
        """Everything but the texts and the digest, as dicts, lists, strings, numbers, booleans and None."""
        return {
            "modules": [{**module._asdict(), "uses": list(module.uses)} for module in self.modules],
            "repositories": [{**each._asdict(), "files": list(each.files)} for each in self.repositories],
            "python": self.python,
            "platform": self.platform,
            "packages": [list(package) for package in self.packages],
            "locks": [list(lock) for lock in self.locks],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> CodeState:
        """The state that `as_plain` gave `plain` for; the digest is computed anew."""
        return cls(
            modules=[ModuleCode(**{**module, "uses": tuple(module["uses"])}) for module in plain["modules"]],
            repositories=[
                RepositoryState(**{**repository, "files": tuple(repository.get("files", ()))})
                for repository in plain["repositories"]
            ],
            python=plain["python"],
            platform=plain["platform"],
            packages=[(name, version) for name, version in plain["packages"]],
            locks=[LockFile(*lock) for lock in plain.get("locks", ())],
            texts=texts,
        )

    def without_texts(self) -> CodeState:
        """The same state, equal and with the same digest, for a store that keeps each text once."""
        return CodeState(*self[:6])

    def module(self, name: str) -> ModuleCode | None:
        """The captured module of that name."""
        return next((module for module in self.modules if module.name == name), None)

    @property
    def modules_changed(self) -> bool | None:
        """Whether any captured module differs from its commit; None where that is not known of all."""
        answers = [module.changed for module in self.modules]
        if any(answers):
            return True
        return None if None in answers else False

    def closure_digest(self, *names: str) -> str:
        """Digest of the sources of these modules (of all, without names) and of all that they use, and nothing else."""
        modules = {module.name: module for module in self.modules}
        todo, reached = list(names or modules), set()
        while todo:
            name = todo.pop()
            if name in modules and name not in reached:
                reached.add(name)
                todo.extend(modules[name].uses)
        return _digest([[name, modules[name].digest] for name in sorted(reached)])

    def summary(self) -> str:
        """One line for people: `commit 1a2b3c4 (changed) survey.py, counting.py`."""
        parts = []
        for index, repository in enumerate(self.repositories):
            members = [module for module in self.modules if module.repository == index]
            answers = [repository.changed, *(module.changed for module in members)]
            note = " (changed)" if True in answers else " (changes unknown)" if None in answers else ""
            parts.append(f"{_short_commit(repository)}{note} {_shown(members)}")
        if loose := [module for module in self.modules if module.repository is None]:
            parts.append(f"no repository: {_shown(loose)}")
        return "; ".join(parts) or "no code of one's own"


def plain_digest(plain: Mapping[str, Any]) -> str:
    """The digest of the state that `as_plain` gave `plain` for, by whichever release."""
    return _digest(plain)


def changes_between(old: CodeState, new: CodeState) -> list[str]:
    """What is not the same in `new`, in readable lines: `survey.py: changed`, `numpy 2.1 -> 2.2`."""
    before, after = ({module.name: module for module in state.modules} for state in (old, new))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f"{_label(before[name])}: gone")
        elif name not in before:
            lines.append(f"{_label(after[name])}: new")
        elif before[name].digest != after[name].digest:
            lines.append(f"{_label(after[name])}: changed")
    lines += _commit_changes(old, new)
    versions_before, versions_after = dict(old.packages), dict(new.packages)
    for name in sorted(versions_before.keys() | versions_after.keys()):
        was, now = versions_before.get(name, "(none)"), versions_after.get(name, "(none)")
        if was != now:
            lines.append(f"{name} {was} -> {now}")
    if old.locks != new.locks:
        lines.append("what pins the environment (a lock file) changed")
    for label, was, now in (("Python", old.python, new.python), ("platform", old.platform, new.platform)):
        if was != now:
            lines.append(f"{label} {was} -> {now}")
    return lines


def _commit_changes(old: CodeState, new: CodeState) -> list[str]:
    """One line for each pair of commits; repositories have no names, so their common modules pair them."""
    before = {m.name: old.repositories[m.repository] for m in old.modules if m.repository is not None}
    lines: dict[str, None] = {}
    for module in new.modules:
        was = before.get(module.name)
        if module.repository is None or was is None:
            continue
        now = new.repositories[module.repository]
        if was.commit != now.commit:
            lines[f"commit {was.commit[:7] or '(none)'} -> {now.commit[:7] or '(none)'}"] = None
    return list(lines)


def _label(module: ModuleCode) -> str:
    return module.path or module.name


def _shown(modules: list[ModuleCode]) -> str:
    names = [_label(module) for module in modules]
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_NAMES_SHOWN])} and {more} more"


def _short_commit(repository: RepositoryState) -> str:
    return f"commit {repository.commit[:7]}" if repository.commit else "no commit yet"


def _digest(plain: Any) -> str:
    import json  # a program that captures nothing does not pay for it

    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
