"""Builds the compiled part, `perdure.kernels._compiled`, when perdure is installed; `python hatch_build.py` in place.

- It is optional: without a compiler, or where the build fails, that is said, and perdure is pure Python. Installing
  with `PERDURE_BUILD=pure` in the environment leaves it out.
- The compiler and its options are those that this Python was built with; CC and CFLAGS in the environment go first.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "src" / "perdure" / "kernels"


def build() -> Path | None:
    """Compile the kernels beside their sources; gives the module's file, or None after saying why there is none."""
    target = KERNELS / f"_compiled{sysconfig.get_config_var('EXT_SUFFIX')}"
    target.unlink(missing_ok=True)
    if os.environ.get("PERDURE_BUILD") == "pure" or sys.implementation.name != "cpython" or os.name != "posix":
        return _say("it was not asked for, or is not for this Python")
    compiler, *options = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    linked = shlex.split(sysconfig.get_config_var("LDSHARED") or f"{compiler} -shared")[1:]
    options += [*shlex.split(sysconfig.get_config_var("CFLAGS") or "-O3"), "-fPIC", "-fvisibility=hidden", "-g0"]
    options += [*shlex.split(os.environ.get("CFLAGS") or ""), "-I", sysconfig.get_paths()["include"]]
    made = target.with_suffix(f".{os.getpid()}")  # whole or not at all: others may be importing it
    command = [compiler, *options, *map(str, sorted(KERNELS.glob("*.c"))), *linked, "-o", str(made)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return _say(f"{compiler} cannot be run: {error.strerror}")
    if done.returncode:
        made.unlink(missing_ok=True)
        return _say(f"{compiler} failed:\n{done.stderr}")
    made.replace(target)
    return target


def _say(why: str) -> None:
    print(f"perdure is installed without its compiled part, so it is slower: {why}", file=sys.stderr)


if __name__ == "__main__":
    build()
else:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class KernelsHook(BuildHookInterface[Any]):
        """What hatchling calls; a wheel with the compiled part is for one Python and one kind of machine."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile for a wheel; a source distribution has the sources only."""
            if self.target_name != "wheel":
                return
            made = build()
            if made is not None:
                build_data["pure_python"], build_data["infer_tag"] = False, True
                build_data["artifacts"].append(f"/{made.relative_to(HERE).as_posix()}")
