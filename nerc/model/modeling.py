"""NERSmallConfig and NERSmall: a BERT encoder, a BiLSTM over words and a linear tagger.

Shapes: S sentences of n words in all; B windows of at most T word pieces, N of them real (no
padding); H hidden size, A attention heads, K labels. S = B but for sentences longer than a window.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    BertConfig,
    BertModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.models.bert.modeling_bert import BertLayer, BertPreTrainedModel

from nerc import hub
from nerc.data import tags
from nerc.errors import InputError
from nerc.model import pipeline
from nerc.model.layers import Dropout, bilstm, replace_dropout
from nerc.model.tokenizer import tokenizer_beside


class NERSmallConfig(BertConfig):
    """BertConfig, the units of the BiLSTM per direction (absent or 0: no BiLSTM), the calibration.

    Its id2label is the tag inventory. So a published BertForTokenClassification checkpoint, which
    has no such fields, is a NERSmall without BiLSTM; where its twelve labels have no names, they
    are CoNLL-2003's.
    """

    model_type = "nerc"

    lstm_hidden_size: int = 0
    calibration: list[float] | None = None  # slope, offset: see nerc.model.calibration

    def __post_init__(self, **kwargs) -> None:
        super().__post_init__(**kwargs)
        conll = tags.inventory(tags.CONLL_TYPES)
        if list(self.id2label.values()) == [f"LABEL_{i}" for i in range(len(conll))]:
            self.id2label = dict(enumerate(conll))
            self.label2id = {tag: i for i, tag in self.id2label.items()}

    @property
    def inventory(self) -> tuple[str, ...]:
        """The tags, index = id."""
        return tuple(self.id2label[i] for i in range(len(self.id2label)))

    @property
    def word_tags(self) -> tuple[str, ...]:
        """The tags that a word may have, in the order of their ids."""
        return tuple(tag for tag in self.inventory if tag not in tags.SPECIAL_TAGS)

    @classmethod
    def with_inventory(cls, inventory: Sequence[str], **values) -> "NERSmallConfig":
        """A configuration whose labels are inventory."""
        id2label = dict(enumerate(inventory))
        return cls(id2label=id2label, label2id={t: i for i, t in id2label.items()}, **values)


class NERSmall(BertPreTrainedModel):
    """BERT over word pieces -> first piece of each word -> BiLSTM over words -> linear."""

    config_class = NERSmallConfig
    folder: Path | None = None  # that from_pretrained read

    def __init__(self, config: NERSmallConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        width = config.hidden_size
        self.lstm = None
        if config.lstm_hidden_size:
            self.lstm = nn.LSTM(
                width, config.lstm_hidden_size, batch_first=True, bidirectional=True
            )
            width = 2 * config.lstm_hidden_size
        dropout = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(width, config.num_labels)
        replace_dropout(self.bert)
        self.post_init()

    @classmethod
    def from_pretrained(cls, name: str | Path, *args, revision: str | None = None, **kwargs):
        """Load from a Hub repository, a folder, or a folder of revisions with revision=NAME.

        Weights are float32 whatever the file holds, unless dtype says otherwise.
        """
        if "config" not in kwargs:  # a NERSmall, not the encoder of a new one
            name, revision = _locate_weights(name, revision, kwargs), None
        kwargs = {"dtype": torch.float32, "use_safetensors": True} | kwargs
        loaded = super().from_pretrained(name, *args, revision=revision or "main", **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        model.folder = Path(name).resolve() if Path(name).is_dir() else None
        return loaded

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that lies beside the weights; may be set."""
        if self.folder is None:
            raise InputError("this model was not loaded: set model.tokenizer before model.predict")
        return tokenizer_beside(self.folder, self.config.vocab_size)

    def predict(self, texts: str | Iterable[str]) -> list:
        """The entities of each of the texts, or of the only one, in their order.

        An entity is a dict: type, text, start and end (characters, end exclusive), words (start and
        end among the words that nerc.data.words cuts), confidence (a probability,
        see nerc.model.calibration).
        """

        if isinstance(texts, str):
            return next(pipeline.predict(self, self.tokenizer, [texts]))
        return list(pipeline.predict(self, self.tokenizer, texts))

    def shape(self) -> dict[str, int | float]:
        """What --lstm-hidden-size and --dropout would have to be for this model."""
        config = self.config
        return {"lstm_hidden_size": config.lstm_hidden_size, "dropout": config.hidden_dropout_prob}

    def forward(
        self,
        input_ids: torch.Tensor,  # (B, T)
        attention_mask: torch.Tensor | None = None,  # (B, T)
        real_pieces: torch.Tensor | None = None,  # (N,)
        word_pieces: torch.Tensor | None = None,  # (n,)
        num_words: torch.Tensor | None = None,  # (S,) on the CPU
        word_cells: torch.Tensor | None = None,  # (2, n)
        groups: list[tuple[int, int, int]] | None = None,  # of rows: first, last + 1, width
        token_type_ids: torch.Tensor | None = None,  # (B, T)
        labels: torch.Tensor | None = None,  # as the logits, but for K
        **_,
    ) -> TokenClassifierOutput:
        """Logits (n, K) of words; with labels, also the mean cross entropy of labelled words.

        The arguments are those of encoding.Batch. Without word_pieces every piece counts as a
        word and the logits are (B, T, K), as of BertForTokenClassification.
        """
        if input_ids.shape[1] > self.config.max_position_embeddings:
            raise InputError(
                f"{input_ids.shape[1]} word pieces at once, and the encoder reads "
                f"{self.config.max_position_embeddings}; model.predict and nerc.model.pipeline's "
                f"NERPipeline read longer text in overlapping windows"
            )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.bool()
        if real_pieces is None:
            real_pieces = mask.flatten().nonzero().flatten()
        if groups is None or mask.device.type != "cpu":  # many small kernels would not pay
            grids = [_Grid(slice(None), real_pieces, mask)]
        else:
            grids = _grids(mask, groups)
        words = self._encode(input_ids, mask, real_pieces, token_type_ids, grids, word_pieces)
        if self.lstm is not None:
            if word_pieces is None:
                num_words = mask.sum(dim=1).cpu()
            words = bilstm(self.lstm, words, num_words, word_cells)  # (n, 2 x lstm_hidden_size)
        logits = self.classifier(self.dropout(words))  # (n, K)
        if word_pieces is None:
            logits = _pad(logits, real_pieces, mask.shape)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), labels.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits)

    def _encode(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor,
        real_pieces: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        grids: list["_Grid"],
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:
        """BertModel's last hidden states of the wanted ones of the real pieces; None: of all.

        Everything but attention works on pieces one by one, so that padding is computed nowhere
        else: shuffled sentences would be 62 % padding (CoNLL-2003, batches of 32). What follows the
        last attention is computed for wanted pieces only.
        """
        embeddings = self.bert.embeddings
        ids = input_ids.flatten()[real_pieces]  # (N,)
        positions = real_pieces % mask.shape[1]
        types = embeddings.token_type_embeddings.weight[0]
        if token_type_ids is not None:
            types = embeddings.token_type_embeddings(token_type_ids.flatten()[real_pieces])
        hidden = embeddings.word_embeddings(ids) + types + embeddings.position_embeddings(positions)
        hidden = embeddings.dropout(embeddings.LayerNorm(hidden))  # (N, H)
        if torch.is_autocast_enabled(hidden.device.type):  # else sums would be cast at every use
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        *layers, last = self.bert.encoder.layer
        for layer in layers:
            attended = layer.attention.output(_attend(layer, hidden, grids), hidden)
            hidden = layer.output(layer.intermediate(attended), attended)
        context = _attend(last, hidden, grids)
        if wanted is not None:
            context, hidden = context.index_select(0, wanted), hidden.index_select(0, wanted)
        attended = last.attention.output(context, hidden)
        return last.output(last.intermediate(attended), attended)


class _Grid(NamedTuple):
    """Rows of windows that attention computes together, g of them, at most t wide."""

    pieces: slice  # theirs among the real pieces
    cells: torch.Tensor  # (their number,), positions in the grid
    mask: torch.Tensor  # (g, t) bool


def _grids(mask: torch.Tensor, groups: list[tuple[int, int, int]]) -> list[_Grid]:
    found, start = [], 0
    for first, last, width in groups:
        part = mask[first:last, :width]
        cells = part.flatten().nonzero().flatten()
        found.append(_Grid(slice(start, start + len(cells)), cells, part))
        start += len(cells)
    return found


def _attend(layer: BertLayer, hidden: torch.Tensor, grids: list[_Grid]) -> torch.Tensor:
    """Self-attention of the real pieces (N, H) within their windows: (N, H)."""
    attention = layer.attention.self
    query, key, value = attention.query, attention.key, attention.value
    weight = torch.cat([query.weight * attention.scaling, key.weight, value.weight])
    bias = torch.cat([query.bias * attention.scaling, key.bias, value.bias])
    projected = F.linear(hidden, weight, bias)  # (N, 3 H)
    heads = attention.num_attention_heads, attention.attention_head_size
    contexts = []
    with torch.autocast(hidden.device.type, enabled=False):  # softmax sums in float32 anyway
        for pieces, cells, mask in grids:
            grid = _pad(projected[pieces], cells, mask.shape).view(*mask.shape, 3, *heads)
            query, key, value = grid.permute(2, 0, 3, 1, 4)  # (g, A, t, H / A) each
            scores = query @ key.transpose(2, 3)  # (g, A, t, t)
            scores.masked_fill_(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
            context = attention.dropout(scores.softmax(dim=-1)) @ value  # (g, A, t, H / A)
            context = context.transpose(1, 2).reshape(mask.numel(), -1)
            contexts.append(context.index_select(0, cells))
    return torch.cat(contexts)


def _pad(rows: torch.Tensor, real_pieces: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Rows (N, H) at their cells of the grid (B, T, H), zeros elsewhere."""
    grid = rows.new_zeros(shape.numel(), rows.shape[1])
    return grid.index_copy(0, real_pieces, rows).view(*shape, -1)


AutoConfig.register(NERSmallConfig.model_type, NERSmallConfig)
AutoModelForTokenClassification.register(NERSmallConfig, NERSmall)


def _locate_weights(name: str | Path, revision: str | None, kwargs: dict) -> Path:
    """The folder of a NERSmall: name, name/revision, or a branch's of the repository name.

    A working copy of a repository need not hold all of its branches.
    """
    folder = Path(name) / (revision or "")
    if (folder / "config.json").is_file():
        return folder
    if hub.is_name(str(name)):
        given = {key: kwargs.pop(key) for key in ("token", "cache_dir") if key in kwargs}
        return hub.Repository(str(name), **given).fetch(revision or "main")
    if not Path(name).is_dir():
        raise InputError(f"{name}: no such folder")
    there = ", ".join(sorted(p.parent.name for p in Path(name).glob("*/config.json"))) or "none"
    raise InputError(f"{folder}: holds no config.json; revisions in {name}: {there}")
