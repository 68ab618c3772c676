"""Opening a store where the operating system says no: a named error, with what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from perdure import make_store
from perdure.errors import AccessDenied, InvalidArgument, NotAStore, PerdureError, StoreNotFound

KINDS = ("sqlite", "directory")


def url_of(kind: str, path: Path | str) -> str:
    return f"sqlite:///{path}" if kind == "sqlite" else str(path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_place_of_a_directory(tmp_path: Path, kind: str, read_only: bool) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    with pytest.raises((StoreNotFound, NotAStore)) as caught:
        make_store(url_of(kind, tmp_path / "file" / "store"), read_only=read_only)
    assert caught.value.hint


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["link", "nothing/at/all"])
def test_a_link_to_itself_or_to_nothing(tmp_path: Path, kind: str, target: str, read_only: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises((StoreNotFound, NotAStore, AccessDenied)) as caught:
        make_store(url_of(kind, tmp_path / "link"), read_only=read_only)
    assert caught.value.hint
    assert "disk" not in caught.value.hint


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("path", ["a\0b", "a%00b", "\udcff\ud800"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_no_path_can_be(tmp_path: Path, kind: str, path: str, read_only: bool) -> None:
    if kind == "directory" and "%" in path:
        path = f"file://{tmp_path}/{path}"
    else:
        path = url_of(kind, f"{tmp_path}/{path}")
    with pytest.raises(InvalidArgument, match="no path can have"):
        make_store(path, read_only=read_only)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_for_the_files_beside_it(tmp_path: Path) -> None:
    for length, read_only in ((255, False), (256, False), (256, True)):
        with pytest.raises((InvalidArgument, StoreNotFound)) as caught:
            make_store(f"sqlite:///{tmp_path}/{'a' * length}", read_only=read_only)
        assert "permissions" not in caught.value.hint
    make_store(f"sqlite:///{tmp_path}/{'a' * 247}").close()
    with pytest.raises(PerdureError):
        make_store(tmp_path / ("a" * 300))


AS_NOBODY = """
import os, sys
import perdure, perdure.backends.sqlite.backend
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for url in sys.argv[1:]:
    for read_only in (True, False):
        try:
            perdure.make_store(url, read_only=read_only)
        except perdure.AccessDenied as error:
            assert error.hint
        else:
            sys.exit(f"{url} was opened")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are other rights there")
def test_a_directory_that_this_user_may_not_enter() -> None:
    closed = Path(tempfile.mkdtemp())  # not below a folder of pytest's, which no other user may enter
    urls = [url_of(kind, closed / f"{kind}.store") for kind in KINDS]
    for url in urls:
        make_store(url).close()
    closed.chmod(0)
    try:
        done = subprocess.run([sys.executable, "-c", AS_NOBODY, *urls], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    finally:
        closed.chmod(0o700)
        shutil.rmtree(closed)


LEFT_OVER = """
import os, sys
import perdure, perdure.backends.sqlite.backend
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    perdure.make_store(sys.argv[1], read_only=True)
except perdure.AccessDenied as error:
    print(error.hint)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are other rights there")
def test_a_log_that_was_left_over_is_read_where_its_index_can_be_made() -> None:
    folder = Path(tempfile.mkdtemp())  # not below a folder of pytest's, which no other user may enter
    store = make_store(f"sqlite:///{folder}/first.db")
    store.save([1, 2])
    for name in ("first.db", "first.db-wal"):
        shutil.copy(folder / name, folder / name.replace("first", "second"))
    store.close()
    before = (folder / "second.db").read_bytes(), (folder / "second.db-wal").read_bytes()
    try:
        folder.chmod(0o555)
        for path in folder.iterdir():
            path.chmod(0o444)
        url = f"sqlite:///{folder}/second.db"
        done = subprocess.run([sys.executable, "-c", LEFT_OVER, url], capture_output=True, text=True)
        assert done.stdout.startswith("Copy both files to another directory"), done.stderr
        folder.chmod(0o755)
        with make_store(url, read_only=True) as reader:
            assert len(reader) == 1
        assert ((folder / "second.db").read_bytes(), (folder / "second.db-wal").read_bytes()) == before
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)
