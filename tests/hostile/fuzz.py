"""Coverage-guided fuzzing of the own reader, `inspect`, the rewriter and frames; needs `pip install atheris`.

    python tests/hostile/fuzz.py FOLDER [-max_total_time=60] [other options of libFuzzer]

FOLDER gets the inputs that reach new code; it begins with the hostile records of `routes`, and the seeds of what was
found before. Whatever comes out that is no `PerdureError` ends it, with the input in a file `crash-…`: such an input
goes into the folder `seeds`, from where `test_hostile_seeds.py` takes it.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path

import atheris
import routes

WATCHED = [
    "perdure.pickling.own", "perdure.pickling.sources", "perdure.pickling.rewriting", "perdure.pickling.opcodes",
    "perdure.records",
]  # fmt: skip

with atheris.instrument_imports(include=WATCHED):
    import targets

    from perdure.pickling.own import inspecting, reading  # noqa: F401  # so that they are watched from the beginning

LARGEST = 20_000  # bytes of a seed
SEEDS = Path(__file__).resolve().parent / "seeds"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    known = [data for _, data in routes.records()] + [path.read_bytes() for path in SEEDS.iterdir()]
    for data in known:
        if len(data) <= LARGEST:
            (folder / blake2b(data, digest_size=10).hexdigest()).write_bytes(data)
            if data[:3] == b"\xb7PD":  # the body of a frame
                (folder / blake2b(data[:-20], digest_size=10).hexdigest()).write_bytes(data[:-20])
    atheris.Setup([*sys.argv[:1], str(folder), *sys.argv[2:]], targets.once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
