"""Tests of crashes, of random histories and of hostile data, with other seeds each round, for as long as one likes.

    make torture TORTURE_ARGUMENTS="--minutes 60"
    make torture TORTURE_ARGUMENTS="--seed 1234 --rounds 1 --only crash"    # what a failed round says, to do it again

Prints the seed of each round; ends at the first that fails, with its output and the words that replay it. Where
`atheris` is installed, each round fuzzes for a minute, too, guided by the code that is reached.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "crash": ["crash", "keeping/test_keeping_crash.py"],
    "histories": [
        "backends/test_contract.py",
        "objects/test_objects_machine.py",
        "objects/test_objects_interrupts.py",
        "prevalence/test_prevalence_machine.py",
        "-k",
        "machine or histories or State or random or signals",
    ],
    "hostile": [
        "hostile",
        "pickling/test_own.py",
        "pickling/test_own_inspect.py",
        "pickling/test_own_frames.py",
        "pickling/test_rewriting.py",
    ],
    "money": ["backends/test_money.py"],
}
FUZZ = "fuzz"
FUZZED_SECONDS = 30  # for each step of the scale


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no further part after this time (10)")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="end after so many rounds")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000 % 1_000_000_000, help="of the first")
    parser.add_argument("--scale", type=int, default=2, help="how many times as much as in an ordinary run (2)")
    parser.add_argument("--only", choices=sorted([*PARTS, FUZZ]), help="one part of it")
    options = parser.parse_args(words)
    end = time.monotonic() + options.minutes * 60
    for seed in range(options.seed, options.seed + min(options.rounds, 10**9)):
        for part in [options.only] if options.only else [*PARTS, FUZZ]:
            if seed > options.seed and time.monotonic() > end:
                return 0
            if not _round(part, seed, options.scale):
                return 1
    return 0


def _round(part: str, seed: int, scale: int) -> bool:
    print(f"seed {seed}: {part} …", end=" ", flush=True)
    begun = time.monotonic()
    environment = {
        **os.environ, "PERDURE_TORTURE_SEED": str(seed), "PERDURE_TORTURE_SCALE": str(scale),
        "PERDURE_TEST_SECONDS": str(6 * scale),
    }  # fmt: skip
    if part == FUZZ and importlib.util.find_spec("atheris") is None:
        print("left out: pip install atheris")
        return True
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            _fuzzing(folder, seed, scale) if part == FUZZ else _testing(part, seed),
            cwd=HERE, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    told = (done.stdout.rstrip() or done.stderr.rstrip()).rpartition("\n")[2]
    print(f"{told or 'nothing'} ({time.monotonic() - begun:.0f} s)", flush=True)
    if done.returncode == 0:
        return True
    print(done.stdout[-20_000:], done.stderr[-5_000:], sep="\n")
    words = f"--seed {seed} --scale {scale} --rounds 1 --only {part}"
    print(f'To do it again: make torture TORTURE_ARGUMENTS="{words}"')
    return False


def _testing(part: str, seed: int) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=3600", f"--hypothesis-seed={seed}", *PARTS[part]]


def _fuzzing(folder: str, seed: int, scale: int) -> list[str]:
    told = [f"-seed={seed}", f"-max_total_time={FUZZED_SECONDS * scale}", "-timeout=200", "-rss_limit_mb=4000"]
    return [sys.executable, "hostile/fuzz.py", folder, *told, f"-artifact_prefix={HERE / 'hostile' / 'found-'}"]


if __name__ == "__main__":
    sys.exit(main())
