"""`perdure diff` shows what changed in the code: functions, and lines."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from perdure.code.archives import Archive
from perdure.code.diffs import differing_modules
from perdure.code.values import BINARY, CodeState, ModuleCode

SURVEY = """\
import words
from perdure import flow, job

@job
def count(text):
    return words.count(text)

@job
def other(text):
    if text:
        return 1
    return 2

@flow
def survey(text):
    return [count(text), other(text)]
"""
WORDS = "def count(text):\n    # counts\n    return len(text)\n\n\ndef unused():\n    pass\n"


@pytest.fixture
def place(folder, say):
    (folder / "survey.py").write_text(SURVEY)
    (folder / "words.py").write_text(WORDS)
    return folder


def again(place, command, words):
    (place / "words.py").write_text(words)
    return command("rerun", "last", "--all")


def test_what_changed_since_a_run_and_between_attempts(place, command):
    assert command("run", "survey.py", "survey", "abc").stdout == "[3, 1]\n"
    assert "no module has changed" in command("diff", "last").stdout
    later = WORDS.replace("len(text)", "len(text) + 1").replace("# counts", "# counts it")
    assert again(place, command, later).stdout == "[4, 1]\n"
    shown = command("diff", "Job.2", "--attempts", "1", "2").stdout
    assert "words.py changed: count\n" in shown
    assert "unused" not in shown.partition("---")[0]
    assert "-    return len(text)\n" in shown
    assert "+    return len(text) + 1\n" in shown
    assert "survey.py" not in shown
    (place / "words.py").unlink()
    shown = command("diff", "last").stdout
    assert "words.py gone" in shown
    assert "count (gone)" in shown
    assert "raise" not in command("diff", "Run.1").stderr


def test_nothing_is_imported(place, command):
    command("run", "survey.py", "survey", "abc")
    (place / "survey.py").write_text(SURVEY + "raise SystemExit('never')\n")
    done = command("diff", "last")
    assert done.returncode == 0
    assert "+raise SystemExit('never')" in done.stdout


def test_two_objects(place, command):
    for scale in ("1", "2"):
        (place / "words.py").write_text(WORDS.replace("len(text)", scale))
        text = (
            f"import perdure, words\nwith perdure.make_store('sqlite:///small.db') as s: s.save([words.count, {scale}])"
        )
        subprocess.run([sys.executable, "-c", text], cwd=place, check=True)
    ids = [line.split()[0] for line in command("ls").stdout.splitlines()[1:]]
    assert len(ids) == 2
    assert "+    return 2" in command("diff", *ids).stdout


def test_wrong_use(place, command):
    command("run", "survey.py", "survey", "abc")
    for words in (["Job.2", "--attempts", "1", "9"], ["last", "--attempts", "1", "2"], ["Nothing.7"],
                  ["Job.2", "Job.3", "--attempts", "1", "2"], ["last", "Nothing.7"]):  # fmt: skip
        done = command("diff", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), words


def archive(name, text, digest, origin="file"):
    return Archive(name, CodeState([ModuleCode("m", "m.py", digest, origin)]), {digest: text}.get)


def test_definitions_and_contexts():
    old = (
        "class A:\n    x = 1\n    def f(self):\n"
        + "        pass\n" * 9
        + "        return 1\n    def g(self): pass\ndef h(): pass\n"
    )
    new = old.replace("return 1", "return 2").replace("x = 1", "x = 2").replace("def h", "async def h")
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (old, new)]
    (module,) = differing_modules(archive("Code.1", old, digests[0]), archive("Code.2", new, digests[1]))
    assert module.definitions == ("A", "A.f", "h")
    assert module.lines[:2] == ("--- m.py (Code.1)", "+++ m.py (Code.2)")
    assert [line.partition(" @@ ")[2] for line in module.lines if line.startswith("@@")][-1].startswith("def f(self):")


def test_texts_that_are_not_to_be_had():
    (module,) = differing_modules(archive("Code.1", None, "1" * 64), archive("Code.2", None, "2" * 64, BINARY))
    assert module.lines == ("(its text is not in Code.1 nor in Code.2)",)
    (module,) = differing_modules(archive("Code.1", None, "1" * 64), Archive("Code.2", CodeState(), {}.get))
    assert (module.what, module.lines) == ("gone", ("(its text is not in Code.1)",))
