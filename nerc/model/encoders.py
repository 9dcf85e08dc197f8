"""Pretrained encoders: which ones NERSmall takes, where their weights sit, and how they read.

Those with BERT's layers are read packed, without padding (see NERSmall). The others read by their
own forward, in rows of like length.

Shapes as in modeling.py: B windows of at most T pieces, N real pieces in all, H hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from nerc.errors import InputError

# Types whose layers are BERT's; only DistilBERT's weights have other names.
PACKED = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
# Fields of an encoder's configuration that NERSmallConfig shows as its own.
SHARED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "pad_token_id")

_OURS = ("id2label", "label2id", "num_labels", "_name_or_path")  # what config.json says of the head
_LEFT_OUT = ("architectures", "dtype", "torch_dtype", "transformers_version")
_MOST = 1000  # layers, or groups or blocks of them
_FEWEST = 6  # pieces in a window: four besides the special ones, of which a word fills a quarter
# Fields by which transformers would run other code, read other files, or build another network.
_REFUSED = {"auto_map", "configuration_files", "transformers_weights", "quantization_config"}
_REFUSED |= {"compression_config", "distributed_config", "fusion_config", "per_layer_config"}
_REFUSED |= {"inventory", "word_tags"}  # properties of ours
# All other names that configurations have are those of methods and of what classes share.
_PROPERTIES = {"model_type", "name_or_path", "num_labels", "output_attentions", "torch_dtype"}
_PROPERTIES |= {"_attn_implementation", "_experts_implementation", "_auto_class"}
_TOLERANCE = 1e-4  # of the largest number in the vectors


def check_type(model_type: str | None) -> None:
    """Raise InputError that says why, unless transformers has a text encoder of this type."""
    found = f"is a model of type {model_type!r}, wanted an encoder of text such as bert or roberta"
    if model_type not in CONFIG_MAPPING:
        raise InputError(f"{found}; transformers has no such type, and nerc runs no remote code")
    of = CONFIG_MAPPING[model_type]
    if of not in MODEL_FOR_MASKED_LM_MAPPING or of.is_encoder_decoder:
        raise InputError(
            f"{found}; decoders and encoder-decoders are refused: a word must see both its sides"
        )


def check_fields(values: Mapping[str, Any], of: type[PreTrainedConfig]) -> None:
    """Raise InputError at a field that would change more than the values of a configuration."""
    known = _PROPERTIES | {field.name for field in fields(of)}
    for name in values:
        has_setter = getattr(getattr(of, name, None), "fset", None) is not None
        if name in _REFUSED or (hasattr(of, name) and name not in known and not has_setter):
            raise InputError(f"has the field {name}, which nerc does not read; remove it")


def as_ours(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a config.json as those of a NERSmall's, which for a BERT are the same."""
    if values.get("model_type") in (None, "bert", "nerc"):
        return values
    encoder = {k: v for k, v in values.items() if k not in (*_OURS, *_LEFT_OUT)}
    of_head = {k: v for k, v in values.items() if k in _OURS}
    longest = getattr(config_of(encoder), "max_position_embeddings", None) or 512
    return of_head | {"encoder": encoder, "max_position_embeddings": longest}


def config_of(encoder: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration that the field encoder of a NERSmallConfig describes."""
    model_type = encoder.get("model_type")
    check_type(model_type)
    check_fields(encoder, CONFIG_MAPPING[model_type])
    for name, value in encoder.items():
        if any(part in name for part in ("layer", "group", "block")) and _is_number(value):
            if value > _MOST:
                raise InputError(f"{name} is {value}, wanted at most {_MOST}")
    with _building(model_type):
        # An attention may be named, USER/NAME, whose code transformers would fetch.
        left_out = ("model_type", *(k for k in encoder if k.endswith("_implementation")))
        values = {name: value for name, value in encoder.items() if name not in left_out}
        config = CONFIG_MAPPING[model_type](**values)
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"  # BigBird chooses by the width of the batch
    return config


def shared(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the encoder's configuration that NERSmallConfig shows as its own."""
    config = config_of(encoder)
    names = [name for name in SHARED if hasattr(config, name)]
    for name in set(SHARED[:3]) - {*names}:
        raise InputError(f"has no {name}")
    return {name: getattr(config, name) for name in names}


def with_dropout(encoder: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """The field encoder of a NERSmallConfig, with every dropout rate set."""
    config = config_of(encoder)
    names = (f.name for f in fields(config) if "dropout" in f.name)
    return {**encoder} | {name: rate for name in names if _is_number(getattr(config, name))}


def build(encoder: Mapping[str, Any]) -> PreTrainedModel:
    """The encoder that the field encoder of a NERSmallConfig describes, with new weights."""
    config = config_of(encoder)
    with _building(config.model_type):
        model_class = MODEL_MAPPING[type(config)]
        if isinstance(model_class, tuple):  # Funnel: with and without its decoder
            model_class = model_class[0]
        takes = signature(model_class).parameters
        model = model_class(config, **{k: False for k in ("add_pooling_layer",) if k in takes})
    if (number := num_positions(model)) < _FEWEST:
        raise InputError(f"has {number} positions for word pieces, wanted {_FEWEST} or more")
    return model


def num_weights(encoder: Mapping[str, Any]) -> int:
    """How many numbers the network has that the field encoder describes; it is not allocated."""
    with _building(encoder["model_type"]), torch.device("meta"):
        model = build(encoder)
        return sum(t.numel() for tensors in (model.parameters(), model.buffers()) for t in tensors)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def _building(model_type: str) -> Iterator[None]:
    """Turn what transformers raises at a configuration into an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a wrong value may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"describes no {model_type} that transformers can build: {text:.300}"
        ) from None


# ------------------------------------------------------------ those with BERT's layers


def num_positions(encoder: PreTrainedModel) -> int:
    """How many pieces a window may have."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):
        return table.num_embeddings - first_position(encoder)
    return getattr(encoder.config, "max_position_embeddings", None) or 512


def first_position(encoder: PreTrainedModel) -> int:
    """The number of a window's first position; RoBERTa's come after that of padding."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def embed(
    encoder: PreTrainedModel,
    ids: torch.Tensor,
    positions: torch.Tensor,
    token_types: torch.Tensor | None,
) -> torch.Tensor:
    """The vectors (N, H) of pieces at positions (N,), which count from 0 in each window."""
    embeddings, first = encoder.embeddings, first_position(encoder)
    hidden = embeddings.word_embeddings(ids)
    if token_types is not None:
        hidden = hidden + embeddings.token_type_embeddings(token_types)
    elif hasattr(embeddings, "token_type_embeddings"):
        hidden = hidden + embeddings.token_type_embeddings.weight[0]
    hidden = hidden + embeddings.position_embeddings(positions + first if first else positions)
    hidden = embeddings.dropout(embeddings.LayerNorm(hidden))
    if hasattr(encoder, "embeddings_project"):  # ELECTRA's, where they are narrower than H
        hidden = encoder.embeddings_project(hidden)
    return hidden


def layers(encoder: PreTrainedModel) -> Sequence[Any]:
    """The layers; each is a BertLayer, or has the parts of one under their names."""
    if encoder.config.model_type == "distilbert":
        return [_as_bert_layer(layer) for layer in encoder.transformer.layer]
    return encoder.encoder.layer


class _Inner(SimpleNamespace):
    """What BERT calls intermediate."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self.act(self.dense(rows))


class _Output(SimpleNamespace):
    """What BERT calls output, of attention and of a layer."""

    def __call__(self, rows: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(rows)) + before)


def _as_bert_layer(layer: nn.Module) -> SimpleNamespace:
    """A layer of DistilBERT, which is one of BERT without dropout after attention."""
    own, ffn = layer.attention, layer.ffn
    attention = SimpleNamespace(
        query=own.q_lin,
        key=own.k_lin,
        value=own.v_lin,
        dropout=own.dropout,
        training=own.training,
        scaling=own.scaling,
        num_attention_heads=own.n_heads,
        attention_head_size=own.attention_head_size,
    )
    after = _Output(dense=own.out_lin, dropout=nn.Identity(), LayerNorm=layer.sa_layer_norm)
    output = _Output(dense=ffn.lin2, dropout=ffn.dropout, LayerNorm=layer.output_layer_norm)
    return SimpleNamespace(
        attention=SimpleNamespace(self=attention, output=after),
        intermediate=_Inner(dense=ffn.lin1, act=ffn.activation),
        output=output,
    )


# ------------------------------------------------------------ the others


def read_padded(
    encoder: PreTrainedModel,
    input_ids: torch.Tensor,
    grids: Sequence[tuple[slice, torch.Tensor, torch.Tensor]],
    token_types: torch.Tensor | None = None,
) -> torch.Tensor:
    """The last hidden states (N, H) of the real pieces of windows (B, T), by the encoder itself.

    grids: see modeling.py; each is read on its own, so that padding is short.
    """
    padding, first, vectors = encoder.config.pad_token_id or 0, 0, []
    for _, cells, mask in grids:
        rows, width = slice(first, first + len(mask)), mask.shape[1]
        how = {} if token_types is None else {"token_type_ids": token_types[rows, :width]}
        ids = input_ids[rows, :width].masked_fill(~mask, padding)
        hidden = encoder(input_ids=ids, attention_mask=mask.long(), **how)[0]
        vectors.append(hidden.flatten(0, 1).index_select(0, cells))
        first = rows.stop
    return torch.cat(vectors)


def check_reading(encoder: PreTrainedModel) -> None:
    """Freeze the weights that no text reads: processes would wait for their gradients.

    Raise InputError where the encoder fails at a text, where padding beside a text changes its
    vectors, or where a word does not see those after it.
    """
    text = torch.arange(encoder.config.vocab_size)[-8:-1]
    ids = torch.stack([text, text, text])
    ids[1, -1] += 1
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[2, 4:] = False
    short = mask[2:, :4]
    with _building(encoder.config.model_type):
        vectors = read_padded(encoder, ids, [(slice(None), mask.flatten().nonzero()[:, 0], mask)])
        alone = read_padded(encoder, ids[2:, :4], [(slice(None), torch.arange(4), short)])
        unlike = (vectors[-4:] - alone).abs().max() / alone.abs().max()
        is_one_way = vectors[:6].equal(vectors[7:13])
        for parameter in {*encoder.parameters()} - _read_weights(vectors):
            parameter.requires_grad_(False)
    if is_one_way or not unlike < _TOLERANCE:
        fault = "do not see the words after it" if is_one_way else "depend on the padding beside it"
        raise InputError(
            f"is a {encoder.config.model_type}, whose vectors of a text {fault}; take another "
            f"encoder"
        )


def _read_weights(vectors: torch.Tensor) -> set[torch.Tensor]:
    """The weights from which vectors were computed."""
    nodes, seen = [vectors.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions if before is not None]
    return {node.variable for node in seen if hasattr(node, "variable")}
