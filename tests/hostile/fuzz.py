"""Coverage-guided fuzzing of the own reader, `inspect` and the frame's parser; needs `pip install atheris`.

    python tests/hostile/fuzz.py FOLDER [-max_total_time=60] [other options of libFuzzer]

FOLDER gets the inputs that reach new code; it begins with the hostile records of `routes`. Whatever comes out that is
no `PerdureError` ends it, with the input in a file `crash-…`: such an input becomes a record of `routes`.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["perdure.pickling.own", "perdure.records.frame", "perdure.pickling.sources"]):
    import perdure
    from perdure.pickling.own import inspecting, reading  # noqa: F401  # so that they are watched from the beginning

import routes
import victim  # noqa: F401  # the classes that the records name

LARGEST = 20_000  # bytes of a seed
LIMITS = perdure.Limits(bytes=1 << 20, unpacked=1 << 22, printed=100_000)


def once(data: bytes) -> None:
    """Read and look at one input."""
    for read in (perdure.loads, perdure.inspect):
        try:
            repr(read(data, limits=LIMITS))
        except (perdure.PerdureError, EOFError, RecursionError):  # nothing there; a value too deep to be printed
            continue


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for _, data in routes.records():
        if len(data) <= LARGEST:
            (folder / blake2b(data, digest_size=10).hexdigest()).write_bytes(data)
    atheris.Setup([*sys.argv[:1], str(folder), *sys.argv[2:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
