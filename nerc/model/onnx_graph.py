"""Builds the ONNX graph of a NERSmall, from word pieces to the logits of words.

It computes what NERSmall.forward computes, in the same order: attention alone sees padding, and
everything else works on the real pieces. Shapes, as in modeling.py: B windows of at most T pieces,
N pieces in all; n words in S sentences, the longest of W words; H hidden size, A heads, K tags.
"""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from nerc.errors import InputError
from nerc.model.layers import lstm_weights
from nerc.model.modeling import NERSmall

OPSET = 20
IR_VERSION = 9  # what onnxruntime has read since 1.17, which brought OPSET
_MICROSOFT = "com.microsoft"  # onnxruntime's own operators
_ACTIVATIONS = {"gelu": ("Gelu", {}), "relu": ("Relu", {})}
_ACTIVATIONS |= dict.fromkeys(
    ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), ("Gelu", {"approximate": "tanh"})
)
_LOWEST = float(np.finfo(np.float32).min)  # added to the score of what is not attended to


def import_library(name: str) -> Any:
    """The library onnx or onnxruntime."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"this needs the library {name}; pip install onnx onnxruntime ({error})"
        ) from None


def build(model: NERSmall, *, int8: bool) -> bytes:
    """The graph of a model, its output restricted to the tags that words can have, serialised.

    Inputs: input_ids (B, T), attention_mask (B, T) bool, padding at the end of a row; word_pieces
    (n,), indices among the real pieces of all rows; num_words (S,); word_shapes (n,), if the model
    reads them. Output: logits (n, K).
    """
    activation = model.config.hidden_act
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
    logits = graph.linear(words, head.weight[columns], head.bias[columns])
    graph("Identity", logits, name="logits")
    return graph.serialised(with_shapes=model.word_shapes is not None, num_tags=len(columns))


class _Graph:
    """Collects nodes and constants. Calling it adds a node, and returns its output's name."""

    def __init__(self, *, int8: bool) -> None:
        self.onnx = import_library("onnx")
        self.int8 = int8
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{operator}_{len(self.nodes)}"
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

    def linear(self, rows: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
        """Rows (m, inputs) times weight (outputs, inputs), plus bias."""
        return self("Gemm", rows, self.constant(weight.T), self.constant(bias))

    def norm(self, rows: str, layer: nn.LayerNorm) -> str:
        weights = self.constant(layer.weight), self.constant(layer.bias)
        return self("LayerNormalization", rows, *weights, axis=-1, epsilon=layer.eps)

    def shape(self, *parts: str | int) -> str:
        """A shape of numbers and of names of whole numbers (1,)."""
        parts = (p if isinstance(p, str) else self.constant([p]) for p in parts)
        return self("Concat", *parts, axis=0)

    def spread(self, rows: str, cells: str, size: str) -> str:
        """Put rows (m, width) into their cells of size rows, which are zero elsewhere."""
        width = self("Shape", rows, start=1)
        zero = self.onnx.helper.make_tensor("zero", self.onnx.TensorProto.FLOAT, [1], [0.0])
        zeros = self("ConstantOfShape", self.shape(size, width), value=zero)
        return self("ScatterND", zeros, self("Unsqueeze", cells, self.constant([1])), rows)

    def cells(self, mask: str) -> str:
        """The flat places of what is true."""
        flat = self("Reshape", mask, self.constant([-1]))
        return self("Reshape", self("NonZero", flat), self.constant([-1]))

    def serialised(self, *, with_shapes: bool, num_tags: int) -> bytes:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        inputs = {"input_ids": ("windows", "length"), "attention_mask": ("windows", "length")}
        inputs |= {"word_pieces": ("words",), "num_words": ("sentences",)}
        inputs |= {"word_shapes": ("words",)} if with_shapes else {}
        types = {"attention_mask": kinds.BOOL}
        taken = [
            helper.make_tensor_value_info(name, types.get(name, kinds.INT64), dims)
            for name, dims in inputs.items()
        ]
        given = [helper.make_tensor_value_info("logits", kinds.FLOAT, ("words", num_tags))]
        graph = helper.make_graph(self.nodes, "nerc", taken, given, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="nerc")
        model.ir_version = IR_VERSION
        return model.SerializeToString()


def _encoder(graph: _Graph, model: NERSmall) -> str:
    """BertModel's last hidden states of each word's first piece (n, H)."""
    embeddings, layers = model.bert.embeddings, model.bert.encoder.layer
    cells = graph.cells("attention_mask")  # (N,)
    ids = graph("Gather", graph("Reshape", "input_ids", graph.constant([-1])), cells)
    positions = graph("Mod", cells, graph("Shape", "input_ids", start=1))
    # Rows of positions hold the type of the first segment: no text has a second one.
    placed = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    hidden = graph("Gather", graph.constant(embeddings.word_embeddings.weight), ids)
    hidden = graph("Add", hidden, graph("Gather", graph.constant(placed), positions))
    hidden = graph.norm(hidden, embeddings.LayerNorm)  # (N, H)
    hidden_from = graph("Not", graph("Unsqueeze", "attention_mask", graph.constant([1, 2])))
    hidden_from = graph("Cast", hidden_from, to=graph.onnx.TensorProto.FLOAT)
    mask = graph("Mul", hidden_from, graph.constant(np.float32(_LOWEST)))  # (B, 1, 1, T)
    operator, attributes = _ACTIVATIONS[model.config.hidden_act]
    for layer in layers:
        context = _attention(graph, layer.attention.self, hidden, cells, mask)
        if layer is layers[-1]:  # only words matter from here on
            context, hidden = (graph("Gather", x, "word_pieces") for x in (context, hidden))
        out = layer.attention.output
        rows = graph.linear(context, out.dense.weight, out.dense.bias)
        attended = graph.norm(graph("Add", rows, hidden), out.LayerNorm)
        up, down = layer.intermediate.dense, layer.output.dense
        inner = graph(operator, graph.linear(attended, up.weight, up.bias), **attributes)
        rows = graph.linear(inner, down.weight, down.bias)
        hidden = graph.norm(graph("Add", rows, attended), layer.output.LayerNorm)
    return hidden


def _attention(graph: _Graph, attention: nn.Module, hidden: str, cells: str, mask: str) -> str:
    """Self-attention of the real pieces (N, H) within their windows: (N, H)."""
    heads, size = attention.num_attention_heads, attention.attention_head_size
    query, key, value = attention.query, attention.key, attention.value
    weight = torch.cat([query.weight * attention.scaling, key.weight, value.weight])
    bias = torch.cat([query.bias * attention.scaling, key.bias, value.bias])
    rows = graph.linear(hidden, weight, bias)  # (N, 3 H)
    shape = graph("Shape", "input_ids")  # B, T
    grid = graph.spread(rows, cells, graph("ReduceProd", shape))
    grid = graph("Reshape", grid, graph.shape(shape, 3, heads, size))
    picked = (graph("Gather", grid, graph.constant(np.int64(i)), axis=2) for i in range(3))
    orders = (0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)
    query, key, value = (
        graph("Transpose", part, perm=order) for part, order in zip(picked, orders, strict=True)
    )  # (B, A, T, H / A), key (B, A, H / A, T)
    scores = graph("Add", graph("MatMul", query, key), mask)
    context = graph("MatMul", graph("Softmax", scores, axis=-1), value)
    context = graph("Transpose", context, perm=(0, 2, 1, 3))
    context = graph("Reshape", context, graph.constant([-1, heads * size]))  # (B T, H)
    return graph("Gather", context, cells)


def _bilstm(graph: _Graph, lstm: nn.LSTM, words: str) -> str:
    """The BiLSTM of layers.bilstm over words (n, I): (n, 2 x units)."""
    zero, one = (graph.constant(np.int64(i)) for i in (0, 1))
    sentences, longest = graph("Shape", "num_words"), graph("ReduceMax", "num_words")  # (1,) each
    numbers = graph("Range", zero, graph("Squeeze", longest), one)  # (W,)
    is_word = graph("Less", numbers, graph("Unsqueeze", "num_words", graph.constant([1])))
    flat = graph.cells(is_word)  # in a grid (S, W)
    # onnxruntime's LSTM wants the words of a time step together: a grid (W, S).
    times = graph("Mul", graph("Mod", flat, longest), sentences)
    cells = graph("Add", times, graph("Div", flat, longest))
    grid = graph.spread(words, cells, graph("Mul", sentences, longest))
    grid = graph("Reshape", grid, graph.shape(longest, sentences, lstm.input_size))
    lengths = graph("Cast", "num_words", to=graph.onnx.TensorProto.INT32)
    # ONNX orders the gates i, o, f, c; torch i, f, c, o.
    size = lstm.hidden_size
    order = torch.cat([torch.arange(size) + size * i for i in (0, 3, 1, 2)])
    w_ih, w_hh, b_ih, b_hh = (
        torch.stack([weight[order] for weight in of_ways])
        for of_ways in zip(*lstm_weights(lstm), strict=True)
    )
    weights = (graph.constant(w) for w in (w_ih, w_hh, torch.cat([b_ih, b_hh], dim=1)))
    how = {"direction": "bidirectional", "hidden_size": size}
    output = graph("LSTM", grid, *weights, lengths, **how)  # (W, 2, S, units)
    output = graph("Transpose", output, perm=(0, 2, 1, 3))
    output = graph("Reshape", output, graph.constant([-1, 2 * size]))
    return graph("Gather", output, cells)
