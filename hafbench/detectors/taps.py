"""The activations of a TensorFlow Lite net's layers, which its file does not name as outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.detectors.nets import interpreter_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Slots of the TensorFlow Lite schema (schema.fbs, version 3): Model.subgraphs, SubGraph.outputs.
_SUBGRAPHS, _OUTPUTS = 2, 2


class TapNet:
    """A net of which tensors are read by their numbers in its file, instead of its outputs. Not thread-safe."""

    def __init__(self, path: Path, tensors: Sequence[int]) -> None:
        """`tensors`: at most as many as the net has outputs."""
        model = with_outputs(path.read_bytes(), tensors)
        self._interpreter = interpreter_of(model)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._tensors = tuple(tensors)

    def __call__(self, crop: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The tensors (first of the batch) for a crop (size, size, 3) in [0, 1]."""
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(crop[None], dtype=np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._tensors]


def with_outputs(model: bytes, tensors: Sequence[int]) -> bytes:
    """The net's file with other outputs: the first ones are replaced by these tensors' numbers.

    An interpreter may give the memory of a tensor that is no output to another one, so that it must be declared.
    Raises ValueError for more tensors than the net has outputs.
    """
    from flatbuffers.encode import Get
    from flatbuffers.number_types import UOffsetTFlags
    from flatbuffers.table import Table

    data = bytearray(model)
    root = Table(data, Get(UOffsetTFlags.packer_type, data, 0))
    graph = Table(data, root.Indirect(root.Vector(_slot(root, _SUBGRAPHS))))
    outputs = _slot(graph, _OUTPUTS)
    if len(tensors) > graph.VectorLen(outputs):
        raise ValueError(f"{len(tensors)} tensors of a net with {graph.VectorLen(outputs)} outputs")
    start = graph.Vector(outputs)
    for place, tensor in enumerate(tensors):
        data[start + 4 * place : start + 4 * place + 4] = tensor.to_bytes(4, "little")
    return bytes(data)


def _slot(table: Any, number: int) -> int:
    """The offset of a table's field by its number in the schema."""
    return int(table.Offset(4 + 2 * number))
