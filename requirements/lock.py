"""Makes the lock files of this folder from `pyproject.toml`: each package in it and below it, with `==`.

- `dev.txt` is resolved first; `run.txt` and `build.txt` are parts of it, with the same versions.
- `bench.txt` is for an environment of its own, with the versions of `dev.txt` where both have a package.
- Resolved by the oldest Python that is supported, since newer ones can install what that one can.
- pip resolves (its report is read), so nothing but pip is needed; no index is named in the files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST = (3, 11)
HEADER = "# {purpose} Made by `make lock`; not edited by hand.\n"


def main() -> None:
    """Write `dev.txt`, `run.txt`, `build.txt` and `bench.txt`."""
    if sys.version_info[:2] != OLDEST:
        wanted = ".".join(map(str, OLDEST))
        sys.exit(f"The lock files are made with Python {wanted}: make lock PYTHON=python{wanted}")
    declared = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    run = declared["project"]["dependencies"]
    build = declared["build-system"]["requires"]
    groups = dict(declared["dependency-groups"])
    rivals = groups.pop("bench")
    extras = [each for extra in declared["project"]["optional-dependencies"].values() for each in extra]
    work = [requirement for group in groups.values() for requirement in group]
    everything = resolve([*run, *build, *extras, *work])
    write("dev.txt", "All that `make test`, `check` and `docs` need.", everything)
    write("run.txt", "What perdure itself needs: enough for `make demo`.", resolve(run, everything))
    write("build.txt", "What installing this folder needs.", resolve(build, everything))
    compared = resolve([*rivals, *extras], everything, wheels_only=False)
    write("bench.txt", "What `make bench` measures perdure against, and perdure's extras.", compared)


def resolve(requirements: Iterable[str], pins: Iterable[str] = (), *, wheels_only: bool = True) -> list[str]:
    """`name==version` of the requirements and of all below them, sorted; `pins` decide where they speak.

    Packages that have to be built are refused, unless `wheels_only` is false: to look at them is to run their code.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq", "--no-input"]
        command += ["--only-binary=:all:"] if wheels_only else []
        command += ["--report=-", f"--constraint={constraints}", *requirements]
        report = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    packages = [package["metadata"] for package in json.loads(report)["install"]]
    return [f"{name}=={version}" for name, version in sorted((p["name"].lower(), p["version"]) for p in packages)]


def write(name: str, purpose: str, pins: Iterable[str]) -> None:
    """Replace the lock file `name`."""
    (HERE / name).write_text(HEADER.format(purpose=purpose) + "\n".join(pins) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
