"""Renames in a TOML file: what is in it, and a clear error for what cannot be meant."""

from __future__ import annotations

import pytest

from perdure.errors import AccessDenied, InvalidRename, NotFound
from perdure.evolution.names import Names, read_names


def test_what_is_in_the_file(tmp_path):
    path = tmp_path / "names.toml"
    path.write_text('[rename]\n"a.b:C" = "d:E.F"\n[move_module]\nold = "new"\n"x.y" = "z"\n')
    assert read_names(path) == Names({"a.b:C": "d:E.F"}, {"old": "new", "x.y": "z"})
    path.write_text("")
    assert read_names(path) == Names({}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[rename", "is no TOML file"),
        (b"\xff", "is no TOML file"),
        (b'[rename]\n"a:A" = "b:B"\n"a:A" = "c:C"\n', "is no TOML file"),
        (b'[rename]\n"a:A" = 1\n', r"\[rename\] of .* is no table"),
        (b'[move_module]\na.b = "c"\n', r"\[move_module\] of .* is no table"),
        (b'rename = "x"\n', "is no table"),
        (b'[renames]\n"a:A" = "b:B"\n', "has 'renames'"),
        (b'[rename]\n"a.A" = "b.B"\n', "no name of a class"),
        (b'[move_module]\n"a:A" = "b"\n', "no name of a module"),
        (b'[rename]\n"a:A" = "b:B"\n"b:B" = "a:A"\n', "circle"),
        (b'[move_module]\na = "b"\n[rename]\n"b:B" = "a:B"\n', "circle"),
        (b'[rename]\n"perdure:Job" = "a:A"\n', "perdure's own"),
    ],
)
def test_what_cannot_be_meant(tmp_path, text, message):
    path = tmp_path / "names.toml"
    path.write_bytes(text)
    with pytest.raises(InvalidRename, match=message) as caught:
        read_names(path)
    assert caught.value.path == str(path)
    assert "names.toml" in caught.value.message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(NotFound, match=r"nothing\.toml"):
        read_names(tmp_path / "nothing.toml")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(AccessDenied):
        read_names(tmp_path / "link")


def test_both_together():
    both = Names({"a:A": "b:B"}, {"x": "y"}).joined(Names({"a:A": "b:B", "c:C": "d:D"}))
    assert both == Names({"a:A": "b:B", "c:C": "d:D"}, {"x": "y"})
    with pytest.raises(InvalidRename, match="b:B, and c:C as well"):
        both.joined(Names({"a:A": "c:C"}))
