"""pandas' frames, series and indexes of plain kinds, made of arrays by pandas' public functions.

- pandas is used if the program has imported it, never imported for a pickle.
- Columns: NumPy's plain kinds, texts (the `str` of pandas 3, whose bytes are decoded here), times without a zone.
- Blocks must cover each column just once, and every length must be that of the index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from struct import unpack
from typing import Any

from perdure.pickling.own.arrays import TABLE as ARRAYS
from perdure.pickling.own.arrays import Lent
from perdure.pickling.own.limits import Refused, Wrong
from perdure.pickling.own.stack import Arguments, Callee, Handed, Pending

MOST_COLUMNS = 1_000_000
LONGEST_RANGE = 1 << 31
_WORD = 1 << 63
_WORK_OF_A_COLUMN = 40
_WIDTHS = {"string": "i", "large_string": "q"}  # of the places in a buffer of texts


def _pandas() -> Any:
    return sys.modules["pandas"]


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Wrong(what)


def _is_array(value: Any) -> bool:
    return isinstance(value, sys.modules["numpy"].ndarray)


def _is_column(value: Any) -> bool:
    return _is_array(value) or isinstance(value, _pandas().api.extensions.ExtensionArray)


# -- columns -------------------------------------------------------------------------------------------------


def _alias(name: Any) -> str:
    if type(name) is not str or name not in _WIDTHS:
        raise Refused(f"a column is of the kind {name!r:.40}")
    return name


def _buffer(content: Any) -> bytes:
    try:
        return memoryview(content).tobytes()
    except TypeError as error:
        raise Wrong("a buffer is made of bytes") from error


def _texts(*args: Any) -> list[str | None]:
    """Texts as Arrow keeps them: which are there, where each begins, and all of them joined."""
    told = args[0] if len(args) == 1 and type(args[0]) is tuple else args
    _require(len(told) == 7, "a column of texts has seven parts")
    kind, length, _, offset, buffers, children, dictionary = told
    _require(type(kind) is str and kind in _WIDTHS, "a column of texts has a kind")
    _require(type(length) is int and type(offset) is int and length >= 0 and offset >= 0, "a column has a length")
    _require(
        type(buffers) is list and len(buffers) == 3 and not children and dictionary is None, "it has three buffers"
    )
    there, places, content = buffers
    _require(there is None or type(there) is bytes, "a column of texts is made of bytes")
    _require(type(places) is bytes and type(content) is bytes, "a column of texts is made of bytes")
    width = 8 if _WIDTHS[kind] == "q" else 4
    _require((offset + length + 1) * width <= len(places), "a column of texts is shorter than it says")
    _require(there is None or (offset + length + 7) // 8 <= len(there), "a column of texts is shorter than it says")
    begins = unpack(f"<{length + 1}{_WIDTHS[kind]}", places[offset * width : (offset + length + 1) * width])
    found: list[str | None] = []
    for place, (begin, end) in enumerate(pairwise(begins), offset):
        if there is not None and not there[place // 8] >> place % 8 & 1:
            found.append(None)
            continue
        _require(0 <= begin <= end <= len(content), "a text is not in the buffer of its column")
        try:
            found.append(content[begin:end].decode())
        except UnicodeDecodeError as error:
            raise Wrong("a text in a column is no UTF-8") from error
    return found


def _string_type(storage: Any = "python", missing: Any = None) -> Any:
    if storage not in ("pyarrow", "python") or not (type(missing) is float and missing != missing):
        raise Refused("a column of texts is of another kind than pandas' usual one")
    return _pandas().StringDtype(storage, na_value=float("nan"))


def _string_array() -> Pending:
    def finish(state: Any) -> Any:
        _require(type(state) is dict, "a column of texts has a state by names")
        texts, kind = state.get("_pa_array"), state.get("_dtype")
        _require(type(texts) is list, "a column of texts has texts")
        _require(isinstance(kind, _pandas().StringDtype), "a column of texts has a kind")
        _require(all(text is None or type(text) is str for text in texts), "a column of texts holds something else")
        return _pandas().array(texts, dtype=kind)

    return Pending(finish)


def _array_of_times(kind: Any, *_: Any) -> Pending:
    if type(kind) is not Callee or kind.name not in ("DatetimeArray", "TimedeltaArray"):
        raise Refused("a column is of a class of its own")

    def finish(state: Any) -> Any:
        _require(type(state) is tuple and len(state) >= 2 and _is_array(state[1]), "a column of times has an array")
        if state[1].dtype.kind not in "mM" or state[0] != state[1].dtype:
            raise Refused("a column of times has a zone, or is none")
        return state[1]

    return Pending(finish)


# -- indexes, blocks, frames -----------------------------------------------------------------------------------


def _length(start: int, stop: int, step: int) -> int:
    return max(0, (stop - start + step - (1 if step > 0 else -1)) // step)  # `len` takes no more than a machine word


def _index(kind: Any, told: Any) -> Any:
    name = kind.name if type(kind) is Callee else ""
    _require(type(told) is dict, "an index is made of what it is told by names")
    called = told.get("name")
    _require(type(called) in (str, int, float, type(None)), "an index has a plain name")
    pandas = _pandas()
    if name == "RangeIndex":
        bounds = [told.get(bound) for bound in ("start", "stop", "step")]
        whole = all(type(bound) is int and -_WORD <= bound < _WORD for bound in bounds) and bounds[2] != 0
        _require(whole, "a range is of whole numbers")
        _require(_length(*bounds) <= LONGEST_RANGE, f"an index is longer than {LONGEST_RANGE}")
        return pandas.RangeIndex(*bounds, name=called)
    data = told.get("data")
    if name not in ("Index", "DatetimeIndex", "TimedeltaIndex") or told.get("freq") is not None:
        raise Refused("an index is of another kind")
    _require(_is_column(data), "an index is made of an array")
    _require(data.ndim == 1, "an index has one axis")
    return pandas.Index(data, dtype=data.dtype, name=called)


def _block(values: Any, placement: Any, axes: Any) -> Handed:
    """Columns of one kind, and their places."""
    _require(_is_column(values), "a block is an array")
    if type(placement) is slice:
        begin, end, step = placement.start or 0, placement.stop, placement.step or 1
        _require(type(begin) is type(end) is type(step) is int and begin >= 0 and step > 0, "a block has places")
        _require(end <= MOST_COLUMNS, f"a frame has more than {MOST_COLUMNS} columns")
        places = [*range(begin, end, step)]
    else:
        _require(_is_array(placement) and placement.ndim == 1 and placement.dtype.kind == "i", "a block has places")
        places = placement.tolist()
    _require(axes in (1, 2), "a block has one axis or two")
    return Handed((values, places))


def _blocks(blocks: Any, axes: Any, count: int) -> list[Any]:
    """Pairs of an array and its places; raises for axes that are no indexes."""
    _require(type(blocks) is Arguments and type(axes) is list and len(axes) == count, "a frame is made of blocks")
    _require(all(isinstance(axis, _pandas().Index) for axis in axes), "the axes of a frame are indexes")
    _require(all(type(block) is Handed and type(block.content) is tuple for block in blocks.items), "it has blocks")
    return [block.content for block in blocks.items]


def _frame(builder: Any, blocks: Any, axes: Any) -> Any:
    if blocks == ():
        blocks = Arguments(())
    pandas, found = _pandas(), _blocks(blocks, axes, 2)
    names, index = axes
    builder.machine.spend(_WORK_OF_A_COLUMN * len(names))
    columns: dict[int, Any] = {}
    for values, places in found:
        rows = [values] if values.ndim == 1 else [*values]
        _require(len(rows) == len(places), "a block has another number of columns than places")
        for place, column in zip(places, rows, strict=True):
            _require(0 <= place < len(names) and place not in columns, "two columns have one place, or one has none")
            _require(column.ndim == 1 and len(column) == len(index), "a column is longer than the index, or shorter")
            columns[place] = pandas.Series(column, index=index, dtype=column.dtype, copy=False)
    _require(len(columns) == len(names), "a column is missing")
    made = pandas.DataFrame({place: columns[place] for place in range(len(names))}, index=index)
    made.columns = names
    return made


def _series() -> Pending:
    def finish(state: Any) -> Any:
        _require(type(state) is tuple and len(state) >= 2, "a series has a state with its index and values")
        axes, values = state[:2]
        _require(
            type(axes) is list and len(axes) == 1 and isinstance(axes[0], _pandas().Index), "a series has an index"
        )
        _require(type(values) is list and len(values) == 1, "a series has one array of values")
        column = values[0]
        _require(_is_column(column) and column.ndim == 1 and len(column) == len(axes[0]), "its values fit its index")
        return _pandas().Series(column, index=axes[0], dtype=column.dtype, copy=False)

    return Pending(finish)


def _whole(kind: str) -> Callable[[], Pending]:
    def make() -> Pending:
        def finish(state: Any) -> Any:
            _require(type(state) is dict, "a frame has a state by names")
            made, attributes, name = state.get("_mgr"), state.get("attrs") or {}, state.get("_name")
            _require(type(made) is getattr(_pandas(), kind), f"a {kind} is made of blocks")
            _require(
                type(attributes) is dict and all(type(key) is str for key in attributes), "its attributes have names"
            )
            if kind == "Series":
                _require(type(name) in (str, int, float, type(None)), "a series has a plain name")
                made.name = name
            made.attrs.update(attributes)
            return made

        return Pending(finish)

    return make


def _rows() -> dict[tuple[str, str], Lent]:
    def lent(name: str, build: Any = None, **told: Any) -> Lent:
        return Lent(name, build, module="pandas", **told)

    indexes = "pandas.core.indexes"
    table = {
        ("pandas._libs.internals", "_unpickle_block"): lent("_unpickle_block", _block),
        (f"{indexes}.base", "_new_Index"): lent("_new_Index", _index, takes_names=True),
        (f"{indexes}.datetimes", "_new_DatetimeIndex"): lent("_new_DatetimeIndex", _index, takes_names=True),
        ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): lent(
            "__pyx_unpickle_NDArrayBacked", _array_of_times, takes_names=True
        ),
        ("pyarrow.lib", "type_for_alias"): lent("type_for_alias", _alias),
        ("pyarrow.lib", "py_buffer"): lent("py_buffer", _buffer),
        ("pyarrow.lib", "_restore_array"): lent("_restore_array", _texts),
        ("pandas", "StringDtype"): lent("StringDtype", _string_type),
        ("pandas.arrays", "ArrowStringArray"): lent("ArrowStringArray", new=_string_array),
        ("pandas.arrays", "DatetimeArray"): lent("DatetimeArray"),
        ("pandas.arrays", "TimedeltaArray"): lent("TimedeltaArray"),
    }
    for module in ("pandas.core.internals.managers", "pandas._libs.internals"):
        table[module, "BlockManager"] = lent("BlockManager", _frame, takes_names=True, gets_builder=True)
        table[module, "SingleBlockManager"] = lent("SingleBlockManager", new=_series)
    for module, kind in (("frame", "DataFrame"), ("series", "Series")):
        table["pandas", kind] = table[f"pandas.core.{module}", kind] = lent(kind, new=_whole(kind))
    for module, kind in (
        ("base", "Index"), ("range", "RangeIndex"), ("datetimes", "DatetimeIndex"), ("timedeltas", "TimedeltaIndex"),
    ):  # fmt: skip
        table["pandas", kind] = table[f"{indexes}.{module}", kind] = lent(kind)
    return table


LENT = {**ARRAYS, **_rows()}
