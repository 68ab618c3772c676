"""For tests of your own: samples of your classes, written once by `perdure.freeze_samples`, load for ever."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from perdure.errors import PerdureError
from perdure.upkeep.sampling import SUFFIX, missing_samples, read_sample


def check_samples(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Load every sample in the directory; gives the objects by the names of their files.

    Raises `AssertionError` that names each sample which does not load, with the reason, and each registered class whose
    present version has none yet.
    """
    folder = Path(directory)
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found[path.name] = read_sample(path)
        except PerdureError as error:
            wrong.append(f"{path.name}: {error}")
    wrong += [
        f"{name} has no sample: call perdure.freeze_samples({str(directory)!r})" for name in missing_samples(folder)
    ]
    assert not wrong, "\n".join(wrong)
    return found
