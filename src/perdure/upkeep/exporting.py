"""Writes attributes of objects as CSV, one line an object, for spreadsheets and other programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, TextIO

from perdure.objects.instances.indexing import plain


def export(objects: Iterable[Any], fields: Sequence[str], file: TextIO) -> int:
    """Write a line of names, then the values of each object; gives the number of objects.

    A field is an attribute (`persistent_id` is one) or a path of them, `owner.name`; what is not there, and None, is
    empty. Moments are ISO 8601, other persistable objects their ids, an `Enum` its value. Open the file with
    `newline=""`.
    """
    writer = csv.writer(file)
    writer.writerow(fields)
    count = 0
    for obj in objects:
        writer.writerow([_cell(obj, field) for field in fields])
        count += 1
    return count


def _cell(obj: Any, field: str) -> Any:
    try:
        value = reduce(getattr, field.split("."), obj)
    except AttributeError:
        return ""
    try:
        return plain(value)
    except ValueError:
        return str(value)
