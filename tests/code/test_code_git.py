"""Git is read as it is, in every shape of repository, and nothing of it is run or touched."""

from __future__ import annotations

import os
import shutil
import sys
import time
import zlib

import pytest

from perdure.code.git import differences, find_repository, read_head
from perdure.code.index import blob_id

PLAIN = b"x = 1\n"


@pytest.fixture
def repository(project):
    project.write("survey.py", PLAIN.decode())
    project.write("notes.txt", "notes\n")
    project.commit()
    return project


def found(project, directory=None):
    repository = find_repository(os.path.realpath(directory or project.root))
    assert repository is not None
    return repository


def asked(project, directory=None, text=PLAIN):
    repository = found(project, directory)
    return differences(repository, read_head(repository).commit, {"survey.py": [text]})[:2]


def test_a_clean_repository(repository):
    assert read_head(found(repository)).commit == repository.git("rev-parse", "HEAD")
    assert asked(repository) == (False, {"survey.py": False})


def test_the_repository_is_found_from_below(repository):
    below = repository.write("a/b/c.py", "").parent
    assert found(repository, below).root == os.path.realpath(repository.root)


def test_no_repository(project):
    assert find_repository(os.path.realpath(project.root)) is None


def test_a_repository_around_the_home_directory_is_none_of_code(repository, monkeypatch):
    home = repository.root / "people" / "ada"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert find_repository(os.path.realpath(home / "work")) is None
    assert find_repository(os.path.realpath(home)) is None
    assert find_repository(os.path.realpath(repository.root / "people")) is not None


def test_packed_references(repository):
    repository.git("pack-refs", "--all")
    assert not (repository.root / ".git/refs/heads/main").exists()
    assert read_head(found(repository)).commit == repository.git("rev-parse", "HEAD")


def test_packed_objects(repository):
    repository.git("gc", "-q")
    assert asked(repository) == (False, {"survey.py": False})


def test_detached_head(repository):
    first = repository.git("rev-parse", "HEAD")
    repository.commit()
    repository.git("checkout", "-q", "--detach", first)
    assert read_head(found(repository)).commit == first


def test_linked_work_tree(repository):
    place = repository.root.parent / "linked"
    repository.git("worktree", "add", "-q", "-b", "other", str(place))
    repository.git("commit", "-q", "--allow-empty", "-m", "there", where=place)
    assert read_head(found(repository, place)).commit == repository.git("rev-parse", "other")
    assert read_head(found(repository, place)).commit != repository.git("rev-parse", "main")
    assert asked(repository, place) == (False, {"survey.py": False})
    repository.git("pack-refs", "--all")
    assert read_head(found(repository, place)).commit == repository.git("rev-parse", "other")


def test_submodule_is_a_repository_of_its_own(repository):
    inner = repository.root.parent / "inner"
    shutil.copytree(repository.root, inner)
    repository.git("commit", "-q", "--allow-empty", "-m", "inner", where=inner)
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "part")
    repository.commit()
    part = found(repository, repository.root / "part")
    assert part.root == os.path.realpath(repository.root / "part")
    assert read_head(part).commit == repository.git("rev-parse", "HEAD", where=inner)
    assert asked(repository) == (False, {"survey.py": False})


def test_before_the_first_commit(project):
    project.write("survey.py", PLAIN.decode())
    project.git("init", "-q")
    assert read_head(found(project)).commit == ""
    assert asked(project) == (True, {"survey.py": True})


def test_sha256_repository(project):
    project.write("survey.py", PLAIN.decode())
    project.git("init", "-q", "--object-format=sha256")
    project.commit()
    assert len(read_head(found(project)).commit) == 64
    assert asked(project) == (False, {"survey.py": False})


def test_damaged_head_is_unknown(repository):
    (repository.root / ".git/HEAD").write_text("ref: refs/heads/../../../notes.txt\n")
    assert read_head(found(repository)).commit == ""


def test_a_changed_module(repository):
    repository.write("survey.py", "x = 2\n")
    assert asked(repository, text=b"x = 2\n") == (True, {"survey.py": True})
    assert asked(repository, text=PLAIN) == (True, {"survey.py": False})  # what was imported is still the commit's


def test_another_tracked_file_changed(repository):
    repository.write("notes.txt", "more\n")
    assert asked(repository) == (True, {"survey.py": False})


def test_a_staged_change(repository):
    repository.write("notes.txt", "more\n")
    repository.git("add", "notes.txt")
    assert asked(repository) == (True, {"survey.py": False})


def test_a_removed_file(repository):
    (repository.root / "notes.txt").unlink()
    assert asked(repository) == (True, {"survey.py": False})


def test_an_untracked_file_is_no_change(repository):
    repository.write("new.py", "")
    assert asked(repository) == (False, {"survey.py": False})
    assert differences(found(repository), read_head(found(repository)).commit, {"new.py": [b""]})[1] == {"new.py": True}


def test_touched_files_are_no_change(repository):
    for name in ("survey.py", "notes.txt"):
        os.utime(repository.root / name, (1, 1))
    assert asked(repository) == (False, {"survey.py": False})


def test_a_file_of_the_same_size_and_time_as_the_index_is_looked_into(repository):
    index = repository.root / ".git/index"
    repository.write("notes.txt", "NOTES\n")
    moment = index.stat().st_mtime_ns
    os.utime(repository.root / "notes.txt", ns=(moment, moment))
    assert asked(repository)[0] is True


def test_other_line_ends_are_no_change(repository):
    repository.git("config", "core.autocrlf", "true")
    (repository.root / "survey.py").write_bytes(b"x = 1\r\n")
    commit = read_head(found(repository)).commit
    assert differences(found(repository), commit, {"survey.py": [b"x = 1\r\n", PLAIN]})[:2] == (
        False,
        {"survey.py": False},
    )


def test_many_paths(repository):
    names = [f"part{number}.py" for number in range(250)]
    for name in names:
        repository.write(name, f"# {name}\n")
    repository.commit()
    repository.write(names[7], "changed\n")
    blobs = {name: [(repository.root / name).read_bytes()] for name in names}
    changed, answers = differences(found(repository), read_head(found(repository)).commit, blobs)[:2]
    assert changed is True
    assert [name for name, answer in answers.items() if answer] == [names[7]]


def test_names_that_are_no_ascii(repository):
    repository.write("ünïcode *.py", "x\n")
    repository.commit()
    commit = read_head(found(repository)).commit
    assert differences(found(repository), commit, {"ünïcode *.py": [b"x\n"]})[:2] == (False, {"ünïcode *.py": False})


def test_nothing_that_a_configuration_names_is_run(repository):
    marker = repository.root.parent / "marker"
    script = repository.root.parent / "run.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> "{marker}"\ncat\n')
    script.chmod(0o755)
    for setting in ("filter.spy.clean", "filter.spy.smudge", "core.fsmonitor", "diff.spy.textconv", "core.pager"):
        repository.git("config", setting, str(script))
    hooks = repository.root.parent / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "pre-commit", "post-checkout", "reference-transaction"):
        shutil.copy(script, hooks / hook)
    repository.git("config", "core.hooksPath", str(hooks))
    (repository.root / ".git/info/attributes").write_text("* filter=spy diff=spy\n")

    def make_racy():  # git looks into a file that is as young as its index
        now = time.time_ns()
        repository.write("notes.txt", "NOTES\n")
        for path in (repository.root / "notes.txt", repository.root / "survey.py", repository.root / ".git/index"):
            os.utime(path, ns=(now, now))

    make_racy()
    repository.git("status")
    assert marker.exists(), "the trap does not work, so the test would prove nothing"
    marker.unlink()
    make_racy()
    assert asked(repository)[0] is True
    assert not marker.exists()


def test_a_filter_process_is_not_run(repository):
    marker = repository.root.parent / "marker"
    repository.git("config", "filter.spy.process", f"touch '{marker}'; false")
    repository.git("config", "filter.spy.required", "true")
    (repository.root / ".git/info/attributes").write_text("* filter=spy\n")
    os.utime(repository.root / "survey.py", (1, 1))
    assert asked(repository) == (False, {"survey.py": False})
    assert not marker.exists()


def test_a_filter_that_cannot_be_switched_off_leaves_it_unknown(repository):
    """Where git itself has to look at the work tree: an index of version 4 is not read here."""
    with open(repository.root / ".git/config", "a", encoding="utf-8") as file:
        file.write('[filter "a=b"]\n\tclean = false\n')
    assert asked(repository) == (False, {"survey.py": False})
    repository.git("update-index", "--index-version", "4")
    assert asked(repository) == (None, {"survey.py": None})


def told(project):
    repository = found(project)
    return differences(repository, read_head(repository).commit, {"survey.py": [PLAIN]})


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_which_files_differ(repository, version):
    repository.write("gone.txt", "")
    repository.write("staged.txt", "one\n")
    repository.write("touched.txt", "one\n")
    repository.commit()
    if version == "3":
        repository.write("meant.txt", "")
        repository.git("add", "--intent-to-add", "meant.txt")
    repository.git("update-index", "--index-version", version)
    (repository.root / "gone.txt").unlink()
    repository.write("notes.txt", "NOTES\n")
    repository.write("staged.txt", "two\n")
    repository.git("add", "staged.txt")
    repository.write("staged.txt", "one\n")
    repository.write("untracked.txt", "")
    os.utime(repository.root / "touched.txt", (1, 1))
    expected = {"gone.txt", "notes.txt", "staged.txt"} | ({"meant.txt"} if version == "3" else set())
    if version == "4":
        expected.remove("staged.txt")  # git compares the work tree with the commit, and they agree
    assert set(told(repository).files) == expected
    assert told(repository).tree == repository.git("rev-parse", "HEAD^{tree}")
    assert told(repository).paths == {"survey.py": False}


def test_the_tree_of_a_clean_repository(repository):
    assert told(repository) == (False, {"survey.py": False}, repository.git("rev-parse", "HEAD^{tree}"), ())
    repository.git("read-tree", "HEAD")  # an index that does not tell its tree
    assert told(repository)[2] == repository.git("rev-parse", "HEAD^{tree}")


def test_a_submodule_at_another_commit_is_a_change(repository):
    other = repository.root.parent / "other"
    other.mkdir()
    (other / "part.py").write_text("")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        repository.git(*arguments, where=other)
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "part")
    repository.commit()
    assert told(repository).files == ()
    repository.git("commit", "-q", "--allow-empty", "-m", "two", where=repository.root / "part")
    assert told(repository).files == ("part",)


@pytest.mark.parametrize("rest", [b"nonsense", b"DIRC", b"DIRC\0\0\0\2\0\0\0\2" + bytes(58)])
def test_a_damaged_index_is_left_to_git(repository, rest):
    (repository.root / ".git/index").write_bytes(rest)
    assert told(repository).changed is not False
    assert told(repository).paths == {"survey.py": False}


def test_nothing_is_touched(repository):
    os.utime(repository.root / "survey.py", (1, 1))  # `git status` would write the index anew

    def everything():
        return {
            str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in (repository.root / ".git").rglob("*")
            if path.is_file()
        }

    before = everything()
    asked(repository)
    assert everything() == before


def test_no_git_on_the_machine(repository, monkeypatch):
    repository.git("gc", "-q")  # a commit in a file of its own is read without asking
    monkeypatch.setattr("perdure.code.git._trees", {})
    monkeypatch.setenv("PATH", str(repository.root / "nothing"))
    assert read_head(found(repository)).commit
    assert asked(repository) == (None, {"survey.py": None})


@pytest.mark.skipif(sys.platform == "win32", reason="ownership is a matter of POSIX here")
def test_git_refuses_the_directory(repository, monkeypatch):
    repository.git("gc", "-q")
    monkeypatch.setattr("perdure.code.git._trees", {})
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert asked(repository) == (None, {"survey.py": None})


def test_variables_of_a_hook_do_not_mislead(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere" / "index"))
    assert asked(repository) == (False, {"survey.py": False})


def test_blob_ids_are_those_of_git(repository):
    assert blob_id(PLAIN) == repository.git("rev-parse", "HEAD:survey.py")


def test_git_is_not_run_where_the_index_holds_the_tree_of_a_commit_that_was_read(repository, monkeypatch):
    assert asked(repository) == (False, {"survey.py": False})
    monkeypatch.setenv("PATH", str(repository.root / "nothing"))
    assert asked(repository) == (False, {"survey.py": False})
    repository.write("survey.py", "x = 2\n")
    assert asked(repository, text=b"x = 2\n") == (True, {"survey.py": True})
    repository.write("survey.py", PLAIN.decode())
    assert asked(repository) == (False, {"survey.py": False})


def test_once_a_packed_commit_was_asked_about_its_tree_is_known(repository, monkeypatch):
    repository.git("gc", "-q")
    assert asked(repository) == (False, {"survey.py": False})
    monkeypatch.setenv("PATH", str(repository.root / "nothing"))
    assert asked(repository) == (False, {"survey.py": False})


@pytest.mark.parametrize(
    "content", [b"", b"no zlib", zlib.compress(b"commit 5\0tree "), zlib.compress(b"x" * 9_000_000)]
)
def test_a_damaged_commit_is_left_to_git(repository, content, monkeypatch):
    monkeypatch.setattr("perdure.code.git._trees", {})
    commit = repository.git("rev-parse", "HEAD")
    place = repository.root / ".git/objects" / commit[:2] / commit[2:]
    place.chmod(0o644)
    place.write_bytes(content)
    assert asked(repository) == (None, {"survey.py": None})


def test_a_new_index_is_read_again(repository):
    assert asked(repository) == (False, {"survey.py": False})
    repository.write("survey.py", "x = 3\n")
    repository.git("add", "survey.py")
    assert asked(repository, text=b"x = 3\n") == (True, {"survey.py": True})
    repository.commit()
    assert asked(repository, text=b"x = 3\n") == (False, {"survey.py": False})
