"""Quantise linears and embeddings of an ONNX graph to 8 bits, with a scale per token.

onnxruntime's own dynamic quantisation uses one scale for the activations of a whole batch. An
answer then depends on its neighbours: on MiniLM a probability moves by up to 0.12, where the
exporter's check allows 0.01. Here every token has its own scale: x becomes round(x / s) s with
s = max|x| / 127. A weight W becomes round(W / w) w with w = max|W| / 63 per output unit, or / 127
per word of an embedding. Weights use seven bits, so that a pair of products fits the 16 bits in
which processors without VNNI add them. Activations keep all eight bits, because their tails are
larger.

Importing this module needs onnx and onnxruntime, which are optional and slow to import.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import quant_pre_process

ACTIVATION, WEIGHT, EMBEDDING = 127, 63, 127  # largest absolute integers
SMALLEST = 1e-12  # the least scale, for rows of zeros
MIDDLE = ACTIVATION + 1  # the unsigned integer for 0


def quantise(path: Path) -> None:
    """Round the graph in ``path`` to 8 bits."""
    simpler = path.with_name("simpler.onnx")
    quant_pre_process(path, simpler, skip_symbolic_shape=True)  # merges operators
    model = onnx.load(simpler)
    round_weights(model)
    onnx.save(model, path)
    simpler.unlink()


def round_weights(model: Any) -> None:
    """Round every multiplied or looked-up matrix of ``model``, an ``onnx.ModelProto``."""
    graph = model.graph
    weights = {w.name: w for w in graph.initializer if len(w.dims) == 2}
    floats = {name for name, w in weights.items() if w.data_type == onnx.TensorProto.FLOAT}
    nodes: list[Any] = []
    rounded: set[str] = set()  # shared tensors are rounded once
    for node in graph.node:
        is_product = node.op_type == "MatMul" and node.input[1] in floats
        if is_product:
            data, weight = node.input
        elif node.op_type == "Gather" and node.input[0] in floats:
            weight, data = node.input
        else:
            nodes.append(node)
            continue
        if weight not in rounded:
            matrix = numpy_helper.to_array(weights[weight])
            graph.initializer.extend(_weight(matrix, weight, axis=0 if is_product else 1))
            rounded.add(weight)
        if not is_product:
            nodes += _lookup(data, weight, node.output[0])
            continue
        if data not in rounded:
            nodes += _activation(data)
            rounded.add(data)
        nodes += _product(data, weight, node.output[0])
    graph.initializer.extend(_constants())
    read = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    for field, values in ((graph.node, nodes), (graph.initializer, kept)):
        del field[:]
        field.extend(values)
    if not any(used.domain == "com.microsoft" for used in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def _weight(matrix: NDArray[Any], name: str, axis: int) -> Iterator[Any]:
    """``matrix`` / scale as int8, its scale (an embedding's keeps ``axis``), and zeros."""
    largest = np.maximum(np.abs(matrix).max(axis, keepdims=True), SMALLEST)
    scale = largest / (EMBEDDING if axis else WEIGHT)
    kept = scale if axis else scale[0]
    whole = np.rint(matrix / scale).astype(np.int8)
    parts = {"int8": whole, "scale": kept.astype(np.float32), "zero": np.zeros(kept.shape, np.int8)}
    return (numpy_helper.from_array(part, f"{name}/{key}") for key, part in parts.items())


def _constants() -> Iterator[Any]:
    floats = {"largest": ACTIVATION, "tiny": SMALLEST, "one": 1.0}
    values = {name: np.array(value, np.float32) for name, value in floats.items()}
    values |= {"middle": np.array(MIDDLE, np.uint8), "last": np.array([-1], np.int64)}
    return (numpy_helper.from_array(value, f"round/{name}") for name, value in values.items())


def _activation(x: str) -> list[Any]:
    """x [..., n] -> ``x/uint8`` [..., n] and its scale ``x/scale`` [..., 1]."""
    return [
        _node("Abs", [x], f"{x}/abs"),
        _node("ReduceMax", [f"{x}/abs", "round/last"], f"{x}/max", keepdims=1),
        _node("Max", [f"{x}/max", "round/tiny"], f"{x}/size"),
        _node("Div", ["round/largest", f"{x}/size"], f"{x}/inverse"),
        _node("Div", [f"{x}/size", "round/largest"], f"{x}/scale"),
        _node("Mul", [x, f"{x}/inverse"], f"{x}/wide"),
        _node("QuantizeLinear", [f"{x}/wide", "round/one", "round/middle"], f"{x}/uint8"),
    ]


def _product(x: str, weight: str, out: str) -> list[Any]:
    of = [f"{x}/uint8", f"{weight}/int8", "round/one", f"{weight}/scale"]
    of += ["round/middle", f"{weight}/zero"]
    return [
        _node("MatMulIntegerToFloat", of, f"{out}/whole", domain="com.microsoft"),
        _node("Mul", [f"{out}/whole", f"{x}/scale"], out),
    ]


def _lookup(ids: str, weight: str, out: str) -> list[Any]:
    return [
        _node("Gather", [f"{weight}/int8", ids], f"{out}/int8"),
        _node("Cast", [f"{out}/int8"], f"{out}/whole", to=1),  # to fp32
        _node("Gather", [f"{weight}/scale", ids], f"{out}/scale"),
        _node("Mul", [f"{out}/whole", f"{out}/scale"], out),
    ]


def _node(kind: str, inputs: list[str], output: str, **options: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, [output], **options)
