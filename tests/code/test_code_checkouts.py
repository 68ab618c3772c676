"""Recorded code becomes files as it was: from git's objects, byte for byte, or from the texts that were kept."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from perdure.code.archives import Archive
from perdure.code.capture import capture
from perdure.code.checkouts import check_out
from perdure.code.values import CodeState, ModuleCode, RepositoryState
from perdure.errors import SourceMissing, StorageError

FILES = {
    "src/deal/__init__.py": "",
    "src/deal/orders.py": "import tally\nX = 1\n",
    "src/tally.py": "Y = 1\n",
    "data/table.csv": "a;b\n1;2\n",
}


@pytest.fixture
def repository(project, monkeypatch):
    for name, text in FILES.items():
        project.write(name, text)
    (project.root / "run.sh").write_text("#!/bin/sh\n")
    (project.root / "run.sh").chmod(0o755)
    os.symlink("data/table.csv", project.root / "link.csv")
    os.symlink("/etc/passwd", project.root / "out")
    project.commit()
    monkeypatch.syspath_prepend(str(project.root / "src"))
    monkeypatch.chdir(project.root)
    return project


def taken(project, *names):
    for name in names:
        project.load(name)
    state = capture(names)
    return Archive("Code.1", state, state.texts.get)


def everything(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_the_tree_as_it_was(repository, tmp_path):
    archive = taken(repository, "deal.orders")
    shutil.rmtree(repository.root / "src")
    repository.commit()
    checkout = check_out(archive, tmp_path / "cache")
    assert (checkout.trees, checkout.whole, checkout.notes) == (True, True, ())
    (root,) = checkout.roots
    assert root.endswith("/src")
    top = tmp_path / "cache" / "trees" / root.split("/")[-2]
    assert {name: content.decode() for name, content in everything(top).items()} == FILES | {"run.sh": "#!/bin/sh\n"}
    assert os.access(top / "run.sh", os.X_OK)
    assert os.readlink(top / "link.csv") == "data/table.csv"
    assert not os.path.lexists(top / "out")  # it leads out of the tree


def test_changed_files_are_laid_over_it(repository, tmp_path):
    repository.write("src/tally.py", "Y = 2\n")
    repository.write("src/fresh.py", "Z = 3\n")
    repository.write("src/deal/orders.py", "import tally, fresh\nX = 1\n")
    archive = taken(repository, "tally", "deal.orders")
    checkout = check_out(archive, tmp_path / "cache")
    assert (checkout.trees, checkout.whole) == (True, True)
    (root,) = checkout.roots
    assert everything(type(tmp_path)(root))["tally.py"] == b"Y = 2\n"
    assert everything(type(tmp_path)(root))["fresh.py"] == b"Z = 3\n"
    repository.write("data/table.csv", "other\n")
    checkout = check_out(taken(repository, "tally", "deal.orders"), tmp_path / "cache")
    assert (checkout.trees, checkout.whole) == (True, False)
    assert checkout.notes == ("files that had been changed and were not kept: data/table.csv",)


def test_nothing_of_the_repository_is_run_or_touched(repository, tmp_path):
    marker, script = tmp_path / "marker", tmp_path / "run.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> "{marker}"\ncat\n')
    script.chmod(0o755)
    repository.write(".gitattributes", "*.py filter=spy export-subst\n*.csv export-ignore\n")
    repository.write("src/tally.py", "Y = '$Format:%H$'\n")
    repository.commit()
    archive = taken(repository, "deal.orders", "tally")
    for setting in ("filter.spy.clean", "filter.spy.smudge", "filter.spy.process", "core.fsmonitor", "core.pager"):
        repository.git("config", setting, str(script))
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "post-checkout", "reference-transaction"):
        shutil.copy(script, hooks / hook)
    repository.git("config", "core.hooksPath", str(hooks))
    os.utime(repository.root / "src/tally.py", (1, 1))

    def state():
        names = ["index", "HEAD", "config", "logs/HEAD"]
        files = [repository.root / ".git" / name for name in names] + [repository.root / name for name in FILES]
        return [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]

    before = state()
    archive = Archive("Code.1", capture(["deal.orders", "tally"]), archive.kept)
    checkout = check_out(archive, tmp_path / "cache")
    assert state() == before
    assert not marker.exists()
    assert checkout.whole
    assert b"$Format:%H$" in everything(type(tmp_path)(checkout.roots[0]))["tally.py"]


def test_what_was_tampered_with_is_written_anew(repository, tmp_path):
    archive = taken(repository, "deal.orders")
    (root,) = check_out(archive, tmp_path / "cache").roots
    path = type(tmp_path)(root) / "tally.py"
    path.write_text("import os\n")
    assert check_out(archive, tmp_path / "cache").roots == (root,)
    assert path.read_text() == "Y = 1\n"


@pytest.mark.parametrize("harm", ["gone", "rewritten", "objects"])
def test_without_the_commit_the_texts_that_were_kept(repository, tmp_path, harm):
    archive = taken(repository, "deal.orders")
    if harm == "objects":
        for path in (repository.root / ".git/objects").glob("??/*"):
            if repository.git("cat-file", "-t", path.parent.name + path.name) == "blob":
                path.unlink()
    else:
        shutil.rmtree(repository.root / ".git")
        if harm == "rewritten":
            repository.write("more.txt", "")
            repository.commit()
    checkout = check_out(archive, tmp_path / "cache")
    assert (checkout.trees, checkout.whole) == (False, False)
    told = "the objects of commit" if harm == "objects" else "is in no repository here"
    assert told in checkout.notes[0]
    (root,) = checkout.roots
    assert everything(type(tmp_path)(root)) == {
        "deal/__init__.py": b"", "deal/orders.py": b"import tally\nX = 1\n", "tally.py": b"Y = 1\n",
    }  # fmt: skip


def test_without_commit_and_texts_it_is_an_error_that_names_the_module(repository, tmp_path):
    state = taken(repository, "deal.orders").state
    shutil.rmtree(repository.root / ".git")
    with pytest.raises(SourceMissing, match=r"Code\.9") as caught:
        check_out(Archive("Code.9", state, lambda digest: None), tmp_path / "cache")
    assert caught.value.path in ("deal.orders", "tally")
    assert not list((tmp_path / "cache").rglob("*.py"))


def test_a_submodule_is_a_repository_of_its_own(repository, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "part.py").write_text("P = 1\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        repository.git(*arguments, where=other)
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "lib")
    repository.write("src/tally.py", "import part\nY = 1\n")
    repository.commit()
    monkeypatch.syspath_prepend(str(repository.root / "lib"))
    archive = taken(repository, "part", "tally", "deal.orders")
    assert len(archive.state.repositories) == 2
    checkout = check_out(archive, tmp_path / "cache")
    assert (checkout.trees, checkout.whole) == (True, True)
    assert len(checkout.roots) == 2
    shutil.rmtree(repository.root / ".git/modules")
    shutil.rmtree(repository.root / "lib")
    shutil.rmtree(tmp_path / "cache")
    checkout = check_out(archive, tmp_path / "cache")
    assert checkout.trees is False
    assert any("part.py: commit" in note for note in checkout.notes)
    assert {name for root in checkout.roots for name in everything(type(tmp_path)(root)) if "part" in name} == {
        "part.py"
    }


def test_paths_that_lead_out_are_not_written(tmp_path):
    text = "X = 1\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    state = CodeState([ModuleCode("evil", "../evil.py", digest), ModuleCode("good", "good.py", digest)])
    with pytest.raises(SourceMissing):
        check_out(Archive("Code.1", state, {digest: text}.get), tmp_path / "a" / "cache")
    assert not list(tmp_path.rglob("evil.py"))
    state = CodeState([ModuleCode("x", "x.py", digest, repository=0)], [RepositoryState("--upload-pack=touch x")])
    checkout = check_out(Archive("Code.1", state, {digest: text}.get), tmp_path / "a" / "cache")
    assert not checkout.trees


def test_a_file_in_the_way_is_a_named_error(tmp_path, monkeypatch):
    digest = hashlib.sha256(b"X\n").hexdigest()
    (tmp_path / "cache").write_text("")
    state = CodeState([ModuleCode("x", "x.py", digest)])
    with pytest.raises(StorageError):
        check_out(Archive("Code.1", state, {digest: "X\n"}.get), tmp_path / "cache")


def test_the_files_of_a_submodule_are_in_the_tree_or_said_to_be_missing(repository, tmp_path):
    inner, other = tmp_path / "inner", tmp_path / "other"
    for place, name in ((inner, "deep.csv"), (other, "table.csv")):
        place.mkdir()
        (place / name).write_text("x;y\n")
        for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
            repository.git(*arguments, where=place)
    allowed = ("-c", "protocol.file.allow=always")
    repository.git(*allowed, "submodule", "add", "-q", str(inner), "sub", where=other)
    repository.git("commit", "-q", "-m", "two", where=other)
    repository.git(*allowed, "submodule", "add", "-q", str(other), "lib")
    repository.git(*allowed, "submodule", "update", "-q", "--init", "--recursive")
    repository.commit()
    archive = taken(repository, "deal.orders")
    checkout = check_out(archive, tmp_path / "cache")
    assert (checkout.trees, checkout.whole, checkout.notes) == (True, True, ())
    top = type(tmp_path)(checkout.roots[0]).parent
    found = everything(top)
    assert (found["lib/table.csv"], found["lib/sub/deep.csv"]) == (b"x;y\n", b"x;y\n")

    shutil.rmtree(repository.root / ".git/modules/lib/modules")
    shutil.rmtree(repository.root / "lib/sub")
    checkout = check_out(archive, tmp_path / "cache")
    assert (checkout.trees, checkout.whole) == (True, False)
    assert "the submodule lib/sub (commit " in checkout.notes[0]
    again = type(tmp_path)(checkout.roots[0]).parent
    assert again != top
    assert "lib/sub/deep.csv" not in everything(again)
    assert everything(again)["lib/table.csv"] == b"x;y\n"


def test_the_tree_that_a_record_tells_names_no_directory(repository, tmp_path):
    archive = taken(repository, "deal.orders")
    state = archive.state
    told = state.repositories[0]._replace(tree="../../../elsewhere")
    other = CodeState(state.modules, [told], state.python, state.platform, state.packages, state.locks, state.texts)
    checkout = check_out(Archive("Code.2", other, archive.kept), tmp_path / "a/b/c/cache")
    assert checkout.roots[0].startswith(str(tmp_path / "a/b/c/cache/trees"))
    assert not (tmp_path / "a" / "elsewhere").exists()
    assert [path.name for path in (tmp_path / "a/b/c").iterdir()] == ["cache"]
