"""Objects as bytes without a store, by the names and signatures of `pickle`.

- What is written is a frame with the user's seal; frames follow one another in a file and are read back in order.
- `format_version` is that of what is written; `compatible_formats` are all that are read.
"""

from __future__ import annotations

from perdure.pickling.readers import Unpickler, load, loads
from perdure.pickling.writers import Pickler, dump, dumps

__all__ = ["Pickler", "Unpickler", "compatible_formats", "dump", "dumps", "format_version", "load", "loads"]

format_version = "1.0"
compatible_formats = ["1.0"]
