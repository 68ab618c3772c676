"""What is in a record of a store, without loading it: `store.inspect`."""

from __future__ import annotations

from typing import Any

from perdure.backends.base import Backend
from perdure.errors import UntrustedRecord
from perdure.objects.payloads.pieces import attached, opened
from perdure.objects.views.whole import not_found
from perdure.pickling.own.inspecting import Inspection, inspect_frame
from perdure.pickling.own.limits import LIMIT_HINT, LIMITS, Limits
from perdure.records.buffers import read_table
from perdure.records.seal import Key
from perdure.records.values import Record


def inspect_record(backend: Backend, id_: str, key: Key | None, *, limits: Limits = LIMITS) -> Inspection:
    """What is in the newest record of that id. Raises `NotFound`, `CorruptRecord`, `NewerFormat`."""
    frame = backend.read([id_]).get(id_)
    if frame is None:
        raise not_found([id_])

    def whole(record: Record) -> tuple[bytes, Any]:
        """The payload with its large pieces in their places, and the buffers that it asks for."""
        size = sum(piece.length for piece in read_table(record.payload))
        if size > limits.bytes:  # the table may name one piece again and again
            raise UntrustedRecord(f"{id_} has {size} bytes of large pieces, above {limits.bytes}.", hint=LIMIT_HINT)
        payload: Any = attached(record, backend).payload
        file, buffers = opened(payload)
        return file.read(), buffers

    return inspect_frame(frame, key, whole, limits=limits)
