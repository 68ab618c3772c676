"""What pins the environment is found beside the code; of it names and versions are kept, and no address."""

from __future__ import annotations

import sys

from perdure.code.capture import capture
from perdure.code.locks import block_of, kept_text

UV = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "numpy"
version = "2.1.0"
source = { registry = "https://ada:hunter2@example.org/simple" }
resolution-markers = [
    "python_full_version >= '3.12'",
]
sdist = { url = "https://files.example.org/numpy-2.1.0.tar.gz", hash = "sha256:00", size = 1 }

[[package]]
name = "shop"
version = "0.1.0"
source = { editable = "/home/" }
dependencies = [
    { name = "numpy", version = "2.1.0", source = { registry = "x" } },
]

[package.metadata]
requires-dist = [{ name = "numpy", specifier = ">=2" }]
"""
PYLOCK = """\
lock-version = "1.0"
created-by = "uv"

[[packages]]
name = "colorama"
version = "0.4.6"
marker = "sys_platform == \\"win32\\""
index = "https://example.org/simple"

[[packages]]
name = "attrs"
version = "25.1.0"
"""
SCRIPT = """\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "requests<3",
#   "rich @ https://ada:hunter2@example.org/rich.whl",
# ]
# ///
x = 1
"""


def test_what_is_kept_of_lock_files():
    assert kept_text(UV) == "numpy==2.1.0 ; (python_full_version >= '3.12')\nshop==0.1.0\n"
    assert kept_text(PYLOCK) == 'attrs==25.1.0\ncolorama==0.4.6 ; (sys_platform == "win32")\n'
    assert kept_text("nonsense") == ""
    assert block_of(SCRIPT) == "requests<3\nrich\n"
    assert block_of("x = 1\n") is None
    assert block_of("# /// script\n# requires-python = '>=3.11'\n# ///\n") == ""


def test_the_nearest_lock_file_of_a_repository(project, monkeypatch):
    project.write("uv.lock", UV)
    project.write("src/shop_a.py", "")
    project.write("src/deep/pylock.toml", PYLOCK)
    project.write("src/deep/shop_b.py", "")
    project.commit()
    for place in ("src", "src/deep"):
        monkeypatch.syspath_prepend(str(project.root / place))
    project.load("shop_a")
    project.load("shop_b")
    state = capture(["shop_a", "shop_b"])
    assert [lock[:2] for lock in state.locks] == [("pylock.toml", "src/deep/pylock.toml"), ("uv.lock", "uv.lock")]
    assert state.texts[state.locks[0].digest] == kept_text(PYLOCK)
    assert [lock.kind for lock in capture(["shop_a"]).locks] == ["uv.lock"]


def test_a_lock_file_that_changes_or_comes_is_seen(project):
    project.write("shop_c.py", "")
    project.load("shop_c")
    digests = [capture(["shop_c"]).digest]
    project.write("uv.lock", UV)
    digests.append(capture(["shop_c"]).digest)
    project.write("uv.lock", UV.replace("2.1.0", "2.1.1"))
    digests.append(capture(["shop_c"]).digest)
    assert len(set(digests)) == 3
    assert capture(["shop_c"]) is capture(["shop_c"])


def test_scripts(project):
    project.write("script_a.py", SCRIPT)
    project.load("script_a")
    state = capture(["script_a"])
    assert [lock[:2] for lock in state.locks] == [("script", "script_a.py")]
    assert state.texts[state.locks[0].digest] == "requests<3\nrich\n"
    project.write("script_a.py.lock", PYLOCK)
    assert capture(["script_a"]).texts[capture(["script_a"]).locks[0].digest] == kept_text(PYLOCK)


def test_nothing_above_the_root_is_looked_at(project):
    (project.root.parent / "uv.lock").write_text(UV)
    project.write("shop_d.py", "")
    project.load("shop_d")
    assert capture(["shop_d"]).locks == ()
    assert "shop_d" in sys.modules
