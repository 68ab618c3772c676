"""What the pages show is true: their Python blocks run, and they mention every public name and every verb.

- The Python blocks of one page, in order, are one script, run in an empty folder; its line numbers are the page's.
- A block after `<!-- not run -->` is left out; there are few of those.
- A block after `<!-- file: NAME -->` is written to that file, in the folder where the script runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
TEXTS = [ROOT / "README.md", *PAGES]
MOST_BLOCKS_NOT_RUN = 3
SECONDS = 60

FENCE = re.compile(
    r"""(?:^[ ]*<!--[ ](?P<mark>not[ ]run|file:[ ]*(?P<file>[\w.-]+))[ ]-->\n\s*)?
        ^(?P<indent>[ ]*)```python[ ]*\n
        (?P<body>.*?)
        ^(?P=indent)```[ ]*$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """A Python block of a page: its first line there, its text, and what its mark says."""

    line: int
    text: str
    file: str
    is_run: bool


def blocks_of(page: str) -> list[Block]:
    return [
        Block(
            line=page.count("\n", 0, found.start("body")) + 1,
            text=textwrap.dedent(found["body"]),
            file=found["file"] or "",
            is_run=not found["mark"],
        )
        for found in FENCE.finditer(page)
    ]


def lay_out(blocks: list[Block], folder: Path) -> Path:
    """Write the script of the blocks, and the files beside it; the script's lines are where the page has them."""
    script = ""
    for block in blocks:
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.is_run:
            script += "\n" * (block.line - 1 - script.count("\n")) + block.text
    path = folder / "page.py"
    path.write_text(script, encoding="utf-8")
    return path


def run(script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", script.name]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=SECONDS, check=False)


def inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in TEXTS if blocks_of(page.read_text("utf-8"))], ids=inside)
def test_blocks_run(page, tmp_path):
    done = run(lay_out(blocks_of(page.read_text("utf-8")), tmp_path))
    assert done.returncode == 0, f"{inside(page)} (its lines are those of page.py)\n{done.stderr}"


def test_few_blocks_are_not_run():
    left_out = [
        f"{inside(page)}:{block.line}"
        for page in TEXTS
        for block in blocks_of(page.read_text("utf-8"))
        if not block.is_run and not block.file
    ]
    assert len(left_out) <= MOST_BLOCKS_NOT_RUN, left_out


def mentioned() -> set[str]:
    """Every word that the pages set as code, inline or in a block."""
    code = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
    return {
        word
        for page in TEXTS
        for found in code.findall(page.read_text("utf-8"))
        for word in re.findall(r"[\w-]+", found)
    }


def test_every_public_name_is_mentioned():
    import perdure

    assert {*perdure.__all__} - mentioned() == set()


def test_every_verb_is_mentioned():
    if not (ROOT / "src/perdure/cli/__init__.py").exists():
        pytest.skip("perdure has no command line yet")
    from perdure.cli import VERBS

    assert {*VERBS} - mentioned() == set()


# -- the test itself -------------------------------------------------------------------------------------

MADE_UP = """\
# A page

```python
first = 1
```

- in a list:

  ```python
  second = first + 1
  ```

```
not python
```

<!-- not run -->
```python
raise SystemExit("was run")
```

<!-- file: beside.py -->

```python
third = 3
```

```python
from beside import third

assert second + third == 5
open("ran", "x").close()
```
"""


def test_a_page_is_one_script(tmp_path):
    blocks = blocks_of(MADE_UP)
    assert [block.line for block in blocks] == [4, 10, 19, 25, 29]
    assert [block.is_run for block in blocks] == [True, True, False, False, True]
    done = run(lay_out(blocks, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "ran").exists()


def test_a_failure_names_the_line_of_the_page(tmp_path):
    done = run(lay_out(blocks_of(MADE_UP.replace("== 5", "== 6")), tmp_path))
    assert done.returncode == 1
    assert "line 31" in done.stderr
