"""Builds the ONNX graph of a NERSmall, from word pieces to the logits of words.

It computes what NERSmall.forward computes, padding included: give it windows of similar length.
Shapes, as in modeling.py: B windows of T pieces; n words in S sentences, the longest of W words; H
hidden size, A attention heads, K tags.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from nerc.errors import InputError
from nerc.model import encoders
from nerc.model.layers import lstm_weights
from nerc.model.modeling import NERSmall

OPSET = 20
IR_VERSION = 9  # what onnxruntime has read since 1.17, which brought OPSET
_MICROSOFT = "com.microsoft"  # onnxruntime's own operators
_ACTIVATIONS = {"gelu": ("Gelu", {}), "relu": ("Relu", {})}
_ACTIVATIONS |= dict.fromkeys(
    ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), ("Gelu", {"approximate": "tanh"})
)
_MOST_WEIGHT = 127  # in 8 bits
_SMALLEST = 1e-30  # scale: a row of zeros has one, too
_MIDDLE, _LOW = 128, 16  # of 0 to 255, what stands for 0.0; low after GELU, which is above -0.17
_LOWEST = float(np.finfo(np.float32).min)  # added to the score of what is not attended to


def import_library(name: str) -> Any:
    """The library onnx or onnxruntime."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"this needs the library {name}; pip install onnx onnxruntime ({error})"
        ) from None


@torch.no_grad()
def build(model: NERSmall, *, int8: bool) -> bytes:
    """The graph of a model, its output restricted to the tags that words can have, serialised.

    Inputs: input_ids (B, T), attention_mask (B, T) bool, padding at the end of a row; word_pieces
    (n,), flat places of the words' first pieces in (B, T); num_words (S,); word_shapes (n,), if the
    model reads them. Output: logits (n, K).
    """
    if not model.is_packed:
        raise InputError(
            f"its encoder is a {model.config.encoder['model_type']}, which cannot be exported or "
            f"run in 8 bits, wanted one of {', '.join(encoders.PACKED)}"
        )
    activation = _activation(model)
    if activation not in _ACTIVATIONS:
        raise InputError(
            f"its hidden_act is {activation}, which cannot be exported, wanted one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    graph = _Graph(int8=int8)
    words = _encoder(graph, model)  # (n, H)
    if model.word_shapes is not None:
        vectors = graph.constant(model.word_shapes.weight)
        words = graph("Add", words, graph("Gather", vectors, "word_shapes"))
    if model.lstm is not None:
        words = _bilstm(graph, model.lstm, words)
    columns = [model.config.inventory.index(tag) for tag in model.config.word_tags]
    head = model.classifier
    head = SimpleNamespace(weight=head.weight[columns], bias=head.bias[columns])
    graph("Identity", graph.linear(words, head), name="logits")
    return graph.serialised(with_shapes=model.word_shapes is not None, num_tags=len(columns))


def _activation(model: NERSmall) -> str:
    config = model.base_model.config
    return config.activation if config.model_type == "distilbert" else config.hidden_act


class _Graph:
    """Collects nodes and constants. Calling it adds a node, and returns its output's name."""

    def __init__(self, *, int8: bool) -> None:
        self.onnx = import_library("onnx")
        self.int8 = int8
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.number = count()

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{operator}_{next(self.number)}"
        node = self.onnx.helper.make_node(operator, inputs, [name], **attributes)
        self.nodes.append(node)
        return name

    def constant(self, values: Any) -> str:
        """Add weights, or whole numbers, which become int64."""
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().numpy()
        values, name = np.asarray(values, order="C"), f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def linear(self, rows: str, layer: nn.Linear, *, zero: int = _MIDDLE) -> str:
        """Rows (m, inputs) through a layer of the model: (m, outputs). zero: see _product."""
        if self.int8:
            return self("Add", self._product(rows, layer.weight, zero), self.constant(layer.bias))
        return self("Gemm", rows, self.constant(layer.weight.T), self.constant(layer.bias))

    def _product(self, rows: str, weight: torch.Tensor, zero: int) -> str:
        """Rows (m, inputs) times weight (outputs, inputs), both in 8 bits; zero stands for 0.0.

        Each row has a scale of its own, so that a word's logits do not depend on its batch.
        """
        axis, kind = self.constant([1]), self.onnx.TensorProto.UINT8
        above = self(
            "Mul", self("ReduceMax", rows, axis), self.constant(np.float32(1 / (255 - zero)))
        )
        below = self("Mul", self("ReduceMin", rows, axis), self.constant(np.float32(-1 / zero)))
        scales = self("Max", above, below, self.constant(np.float32(_SMALLEST)))  # (m, 1)
        flat = self("Squeeze", scales, axis)
        zeros = self.onnx.helper.make_tensor("zero", kind, [1], [zero])
        zeros = self("ConstantOfShape", self("Shape", flat), value=zeros)
        numbers = self("QuantizeLinear", rows, flat, zeros, axis=0)
        one, zero = self.constant(np.float32(1)), self.constant(np.uint8(zero))
        return self("Mul", self._times(numbers, weight, one, zero), scales)

    def _times(self, numbers: str, weight: torch.Tensor, scale: str, zero: str) -> str:
        """Rows in 8 bits (m, inputs), of this scale and zero, times weight (outputs, inputs)."""
        steps = weight.abs().amax(dim=1).clamp_min(_SMALLEST) / _MOST_WEIGHT  # (outputs,)
        whole = self.constant((weight / steps[:, None]).round().to(torch.int8).T)
        fields = numbers, whole, scale, self.constant(steps), zero
        return self("MatMulIntegerToFloat", *fields, domain=_MICROSOFT)

    def norm(self, rows: str, layer: nn.LayerNorm) -> str:
        weights = self.constant(layer.weight), self.constant(layer.bias)
        return self("LayerNormalization", rows, *weights, axis=-1, epsilon=layer.eps)

    def shape(self, *parts: str | int) -> str:
        """A shape of numbers and of names of whole numbers (1,)."""
        parts = (p if isinstance(p, str) else self.constant([p]) for p in parts)
        return self("Concat", *parts, axis=0)

    def spread(self, rows: str, cells: str, size: str, width: int) -> str:
        """Put rows (m, width) into their cells of size rows, which are zero elsewhere."""
        zeros = self("ConstantOfShape", self.shape(size, width))
        return self("ScatterND", zeros, self("Unsqueeze", cells, self.constant([1])), rows)

    def from_units(self, hidden: str, weight: torch.Tensor) -> str:
        """Units of an LSTM (m, units), between -1 and 1, times weight (outputs, units)."""
        if not self.int8:
            return self("MatMul", hidden, self.constant(weight.T))
        step, zero = self.constant(np.float32(1 / 127)), self.constant(np.uint8(_MIDDLE))
        return self._times(self("QuantizeLinear", hidden, step, zero), weight, step, zero)

    @contextmanager
    def inside(self) -> Iterator[list[Any]]:
        """The nodes of a body, which what is added meanwhile becomes part of."""
        outer, self.nodes = self.nodes, []
        yield self.nodes
        self.nodes = outer

    def value(self, name: str, dims: tuple[str | int, ...], kind: str = "FLOAT") -> Any:
        """The declaration of an input or an output."""
        kind = getattr(self.onnx.TensorProto, kind)
        return self.onnx.helper.make_tensor_value_info(name, kind, dims)

    def serialised(self, *, with_shapes: bool, num_tags: int) -> bytes:
        helper = self.onnx.helper
        taken = [
            self.value("input_ids", ("windows", "length"), "INT64"),
            self.value("attention_mask", ("windows", "length"), "BOOL"),
            self.value("word_pieces", ("words",), "INT64"),
            self.value("num_words", ("sentences",), "INT64"),
        ]
        taken += [self.value("word_shapes", ("words",), "INT64")] if with_shapes else []
        given = [self.value("logits", ("words", num_tags))]
        graph = helper.make_graph(self.nodes, "nerc", taken, given, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="nerc")
        model.ir_version = IR_VERSION
        return model.SerializeToString()


def _encoder(graph: _Graph, model: NERSmall) -> str:
    """The encoder's last hidden states of each word's first piece (n, H)."""
    encoder = model.base_model
    embeddings, layers = encoder.embeddings, encoders.layers(encoder)
    placed = embeddings.position_embeddings.weight[encoders.first_position(encoder) :]
    if hasattr(embeddings, "token_type_embeddings"):  # no text has a second segment
        placed = placed + embeddings.token_type_embeddings.weight[0]
    length = graph("Shape", "input_ids", start=1)  # (1,): T
    placed = graph("Slice", graph.constant(placed), graph.constant([0]), length)  # (T, H)
    vectors = graph("Gather", graph.constant(embeddings.word_embeddings.weight), "input_ids")
    hidden = graph.norm(graph("Add", vectors, placed), embeddings.LayerNorm)  # (B, T, H)
    flat = graph.constant([-1, embeddings.word_embeddings.embedding_dim])
    hidden = graph("Reshape", hidden, flat)  # (B T, H)
    if hasattr(encoder, "embeddings_project"):
        hidden = graph.linear(hidden, encoder.embeddings_project)
    padding = graph("Not", graph("Unsqueeze", "attention_mask", graph.constant([1, 2])))
    padding = graph("Cast", padding, to=graph.onnx.TensorProto.FLOAT)
    mask = graph("Mul", padding, graph.constant(np.float32(_LOWEST)))  # (B, 1, 1, T)
    operator, attributes = _ACTIVATIONS[_activation(model)]
    for layer in layers:
        context = _attention(graph, layer.attention.self, hidden, mask)
        if layer is layers[-1]:  # only words matter from here on
            context, hidden = (graph("Gather", x, "word_pieces") for x in (context, hidden))
        rows = graph.linear(context, layer.attention.output.dense)
        attended = graph.norm(graph("Add", rows, hidden), layer.attention.output.LayerNorm)
        inner = graph(operator, graph.linear(attended, layer.intermediate.dense), **attributes)
        rows = graph.linear(inner, layer.output.dense, zero=_LOW)
        hidden = graph.norm(graph("Add", rows, attended), layer.output.LayerNorm)
    return hidden


def _attention(graph: _Graph, attention: nn.Module, hidden: str, mask: str) -> str:
    """Self-attention of the pieces (B T, H) within their windows: (B T, H)."""
    heads, size = attention.num_attention_heads, attention.attention_head_size
    query, key, value = attention.query, attention.key, attention.value
    joined = SimpleNamespace(
        weight=torch.cat([query.weight * attention.scaling, key.weight, value.weight]),
        bias=torch.cat([query.bias * attention.scaling, key.bias, value.bias]),
    )
    rows = graph.linear(hidden, joined)  # (B T, 3 H)
    grid = graph("Reshape", rows, graph.shape(graph("Shape", "input_ids"), 3, heads, size))
    grid = graph("Transpose", grid, perm=(2, 0, 3, 1, 4))  # (3, B, A, T, H / A)
    query, key, value = (
        graph("Gather", grid, graph.constant(np.int64(i)), axis=0) for i in range(3)
    )
    key = graph("Transpose", key, perm=(0, 1, 3, 2))  # which onnxruntime makes part of the product
    scores = graph("Add", graph("MatMul", query, key), mask)
    context = graph("MatMul", graph("Softmax", scores, axis=-1), value)
    context = graph("Transpose", context, perm=(0, 2, 1, 3))
    return graph("Reshape", context, graph.constant([-1, heads * size]))


def _bilstm(graph: _Graph, lstm: nn.LSTM, words: str) -> str:
    """The BiLSTM of layers.bilstm over words (n, I): (n, 2 x units)."""
    zero, one = (graph.constant(np.int64(i)) for i in (0, 1))
    sentences, longest = graph("Shape", "num_words"), graph("ReduceMax", "num_words")  # (1,) each
    numbers = graph("Range", zero, graph("Squeeze", longest), one)  # (W,)
    is_word = graph("Less", numbers, graph("Unsqueeze", "num_words", graph.constant([1])))
    is_word = graph("Reshape", is_word, graph.constant([-1]))  # (S W,)
    flat = graph("Reshape", graph("NonZero", is_word), graph.constant([-1]))  # (n,)
    sentence, forth = graph("Div", flat, longest), graph("Mod", flat, longest)
    back = graph("Sub", graph("Sub", graph("Gather", "num_words", sentence), forth), one)
    size = graph("Mul", sentences, longest)
    hidden = []
    for way, (w_ih, w_hh, b_ih, b_hh) in zip((forth, back), lstm_weights(lstm), strict=True):
        # The words of a time step are together, and padding is at the end of either direction.
        cells = graph("Add", graph("Mul", way, sentences), sentence)
        gates = graph.linear(words, SimpleNamespace(weight=w_ih, bias=b_ih + b_hh))  # (n, 4 units)
        grid = graph.spread(gates, cells, size, 4 * lstm.hidden_size)
        grid = graph("Reshape", grid, graph.shape(longest, sentences, 4 * lstm.hidden_size))
        outputs = _steps(graph, w_hh, grid, graph.shape(sentences, lstm.hidden_size))
        outputs = graph("Reshape", outputs, graph.constant([-1, lstm.hidden_size]))
        hidden.append(graph("Gather", outputs, cells))
    return graph("Concat", *hidden, axis=1)


def _steps(graph: _Graph, weight: torch.Tensor, grid: str, shape: str) -> str:
    """The hidden units (W, S, units) of an LSTM, from its inputs' part of the gates i, f, g and o.

    ONNX has an LSTM, but onnxruntime's one in 8 bits has one scale for all words.
    """
    start = graph("ConstantOfShape", shape)
    hidden, cell, given = (f"{name}_{grid}" for name in ("hidden", "cell", "given"))
    with graph.inside() as nodes:
        gates = graph("Add", graph.from_units(hidden, weight), given)
        how = {"axis": 1, "num_outputs": 4}
        i, f, g, o = (f"{gate}_{grid}" for gate in "ifgo")
        nodes.append(graph.onnx.helper.make_node("Split", [gates], [i, f, g, o], **how))
        i, f, o = (graph("Sigmoid", gate) for gate in (i, f, o))
        kept, added = graph("Mul", f, cell), graph("Mul", i, graph("Tanh", g))
        new_cell = graph("Add", kept, added)
        new_hidden = graph("Mul", o, graph("Tanh", new_cell))
        output = graph("Identity", new_hidden)
    size = weight.shape[1]
    sizes = {hidden: size, cell: size, given: 4 * size}
    sizes |= dict.fromkeys((new_hidden, new_cell, output), size)
    about = [graph.value(name, ("sentences", size)) for name, size in sizes.items()]
    body = graph.onnx.helper.make_graph(nodes, "step", about[:3], about[3:])
    names = [f"{name}_{grid}" for name in ("last_hidden", "last_cell", "outputs")]
    inputs, how = [start, start, grid], {"body": body, "num_scan_inputs": 1}
    graph.nodes.append(graph.onnx.helper.make_node("Scan", inputs, names, **how))
    return names[2]
