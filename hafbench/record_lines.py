"""Records as lines of CSV, made column by column: the texts that Python's json and csv make of each cell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hafbench.records import NESTED

if TYPE_CHECKING:
    import pyarrow as pa


def csv_lines(batch: pa.RecordBatch) -> bytes:
    """The rows as lines of CSV in UTF-8, without a header; findings and measures are JSON texts.

    A missing value is an empty cell. Of some thousand rows: the texts of a column are at most 2 GB together.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = [_cells(name, batch[name]) for name in batch.schema.names]
    lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement="")
    return b"\n".join([*lines.cast(pa.binary()).to_pylist(), b""])


def _cells(name: str, column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in NESTED:
        return _quoted(_json(column))
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(column.type):
        return _numbers(column)
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    return _quoted(column)


def _quoted(texts: pa.Array) -> pa.Array:
    """In quotes where a comma, a quote or the end of a line is in a text."""
    import pyarrow.compute as pc

    special = pc.match_substring_regex(texts, '[,"\r\n]')
    if not pc.any(special).as_py():
        return texts
    return pc.if_else(special, pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', ""), texts)


def _json(values: pa.Array) -> pa.Array:
    """Each value as `json.dumps` writes it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    if pa.types.is_map(kind):
        ends = values.offsets.to_numpy()
        keys, items = (_json(part[ends[0] : ends[-1]]) for part in (values.keys, values.items))
        return pc.binary_join_element_wise(
            "{", _joined(pc.binary_join_element_wise(keys, items, ": "), np.diff(ends)), "}", ""
        )
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        inside = _joined(_json(pc.list_flatten(values)), lengths)
        return pc.if_else(pc.is_valid(values), pc.binary_join_element_wise("[", inside, "]", ""), "null")
    if pa.types.is_struct(kind):
        parts: list[Any] = []
        for field in kind:
            parts += [f", {json.dumps(field.name)}: ", _json(pc.struct_field(values, field.name))]
        parts[0] = "{" + parts[0][2:]
        return pc.binary_join_element_wise(*parts, "}", "")
    if pa.types.is_floating(kind):
        return pc.fill_null(_numbers(values), "null")
    coded = values.dictionary_encode()
    return pc.fill_null(
        pa.array(map(json.dumps, coded.dictionary.to_pylist()), pa.string()).take(coded.indices), "null"
    )


def _joined(texts: pa.Array, lengths: Any) -> pa.Array:
    """Of so many texts each, (n,), one text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ", ")


def _numbers(values: pa.Array) -> pa.Array:
    """Floats as Python writes them: the fewest digits that tell the number; a missing one stays so."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = values.cast(pa.string())
    size = np.abs(values.to_numpy(zero_copy_only=False))
    # Of other sizes Python writes an exponent, where Arrow may not, or in another form.
    odd = ~((size == 0) | ((size >= 1e-4) & (size < 1e10))) & values.is_valid().to_numpy(zero_copy_only=False)
    if odd.any():
        texts = pc.replace_with_mask(texts, pa.array(odd), pa.array(map(json.dumps, values.filter(odd).to_pylist())))
    whole = pc.invert(pc.match_substring_regex(texts, "[^0-9-]"))
    return pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
