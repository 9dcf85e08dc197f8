"""NERSmallConfig and NERSmall: a pretrained encoder, a BiLSTM over words and a linear tagger.

Shapes: S sentences with n words in all; B windows of at most T word pieces; N pieces in all
windows, without padding; H hidden size, A attention heads, K labels. B is S, unless a sentence is
longer than a window.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
from transformers.models.bert.modeling_bert import BertPreTrainedModel

from nerc import hub
from nerc.data import tags
from nerc.errors import InputError
from nerc.files import Replaced, read_unreplaced, stamps
from nerc.model import encoders, pipeline
from nerc.model.attention import Grid, HeadRows, attend_on_cpu, attend_on_gpu, pad, visible_pieces
from nerc.model.layers import Dropout, bilstm, replace_layers
from nerc.model.products import Linear
from nerc.model.source import check_config, check_folder
from nerc.model.tokenizer import tokenizer_beside


class NERSmallConfig(BertConfig):
    """BertConfig with the size of the BiLSTM (units per direction; 0: none), a calibration, and the
    number of word shapes that the model reads (see nerc.model.word_shapes; 0: none).

    id2label is the tag inventory. A published BertForTokenClassification checkpoint lacks these
    fields and loads as a NERSmall without BiLSTM; twelve labels without names are CoNLL-2003's.

    encoder is the config.json of an encoder other than BERT, whose sizes (encoders.SHARED) are then
    shown here, too. max_position_embeddings is how many pieces a window has at most.
    """

    model_type = "nerc"

    encoder: dict[str, Any] | None = None
    lstm_hidden_size: int = 0
    word_shapes: int = 0
    context: str = "none"  # or document: see nerc.model.encoding.Encoded.documents
    calibration: list[float] | None = None  # slope and offset, see nerc.model.calibration

    def __post_init__(self, **kwargs) -> None:
        if self.encoder is not None:
            for name, value in encoders.shared(self.encoder).items():
                setattr(self, name, value)
        super().__post_init__(**kwargs)
        conll = tags.inventory(tags.CONLL_TYPES)
        if list(self.id2label.values()) == [f"LABEL_{i}" for i in range(len(conll))]:
            self.id2label, self.label2id = labels_of(conll).values()

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs):
        """Load from a folder or the Hub; InputError names the field that is wrong."""
        try:
            return super().from_pretrained(name, **kwargs)
        except InputError as error:
            raise InputError(f"{Path(name) / 'config.json'}: {error}") from None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """Check what config.json holds; attention is always our own, whatever it names.

        transformers would fetch the code of an attention USER/NAME from the Hub.
        """
        values = encoders.as_ours(config_dict)
        check_config(values)
        values = {k: v for k, v in values.items() if not k.endswith("_implementation")}
        return super().from_dict(values, **kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """What save_pretrained writes; of a BERT, without the field encoder."""
        values = super().to_diff_dict()
        return {k: v for k, v in values.items() if k != "encoder" or v is not None}

    @property
    def inventory(self) -> tuple[str, ...]:
        """All tags; the index of a tag is its id. InputError where they are none of ours."""
        try:
            return _inventory(tuple(self.id2label.items()))
        except InputError as error:
            source = self.name_or_path or "the configuration"
            raise InputError(
                f"{source}: {error}; put the tags into id2label of its config.json"
            ) from None

    @property
    def word_tags(self) -> tuple[str, ...]:
        """The tags that a word can have, in the order of their ids."""
        return tuple(tag for tag in self.inventory if tag not in tags.SPECIAL_TAGS)


def labels_of(inventory: Sequence[str]) -> dict[str, dict]:
    """id2label and label2id of a configuration whose labels are the tags of inventory."""
    id2label = dict(enumerate(inventory))
    return {"id2label": id2label, "label2id": {tag: i for i, tag in id2label.items()}}


@lru_cache
def _inventory(labels: tuple[tuple[int, str], ...]) -> tuple[str, ...]:
    """The labels in the order of their ids; InputError unless they are tags of ours."""
    ids, names = zip(*sorted(labels), strict=True)
    if ids != (*range(len(ids)),):
        raise InputError(f"its labels have other ids than 0 to {len(ids) - 1}")
    wanted = {"O"}
    for name in (name for name in names if name not in tags.SPECIAL_TAGS):
        if not tags.is_tag(name) or name[0] not in "OBI":
            raise InputError(
                f"its labels, such as {name}, are not tags, wanted O, B-TYPE and I-TYPE"
            )
        wanted |= {name} if name == "O" else {f"B{name[1:]}", f"I{name[1:]}"}
    if missing := sorted(wanted - {*names}):
        raise InputError(f"its labels lack {missing[0]}, wanted O, B-TYPE and I-TYPE of each type")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"its labels have {twice[0]} more than once")
    return names


class NERSmall(BertPreTrainedModel):
    """Encoder over word pieces -> first piece of each word -> BiLSTM over words -> linear.

    base_model is the encoder; its name among the weights is the one that transformers gives it.
    """

    config_class = NERSmallConfig
    folder: Path | None = None  # from which from_pretrained loaded it
    read_stamps: Mapping[str, tuple[int, ...]] = MappingProxyType({})  # of its files, at that time

    def __init__(self, config: NERSmallConfig) -> None:
        super().__init__(config)
        if config.encoder is None:
            self.bert = BertModel(config, add_pooling_layer=False)
        else:
            encoder = encoders.build(config.encoder)
            self.base_model_prefix = encoder.base_model_prefix
            setattr(self, self.base_model_prefix, encoder)
            longest = min(config.max_position_embeddings, encoders.num_positions(encoder))
            config.max_position_embeddings = longest
        # Whether _encode computes it, or its own forward.
        self.is_packed = config.encoder is None or config.encoder["model_type"] in encoders.PACKED
        width, size = config.hidden_size, config.lstm_hidden_size
        self.word_shapes = None
        if config.word_shapes:
            self.read_word_shapes(config.word_shapes)
        self.lstm = None
        if size:
            self.lstm = nn.LSTM(width, size, batch_first=True, bidirectional=True)
            width = 2 * size
        dropout = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = Linear(width, config.num_labels)
        replace_layers(self.base_model)
        self.post_init()

    def rebuild_encoder(self) -> None:
        """Build an encoder other than BERT as config describes it now, with the same weights."""
        encoder = encoders.build(self.config.encoder).train(self.training)
        encoder.load_state_dict(self.base_model.state_dict())
        for new, old in zip(encoder.parameters(), self.base_model.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)
        replace_layers(encoder)
        setattr(self, self.base_model_prefix, encoder)

    def read_word_shapes(self, number: int) -> None:
        """Add vectors of this many word shapes, drawn from torch's global generator."""
        self.config.word_shapes = number
        self.word_shapes = nn.Embedding(number, self.config.hidden_size, padding_idx=0)
        with torch.no_grad():
            self.word_shapes.weight[1:].normal_(std=self.config.initializer_range)

    @classmethod
    def from_pretrained(cls, name: str | Path, *args, revision: str | None = None, **kwargs):
        """Load from a Hub repository, a folder, or a folder of revisions with revision=NAME.

        Weights become float32 whatever the file holds, unless dtype is given.
        """
        if "config" not in kwargs:  # with a config, name is the encoder of a new model
            name, revision = _locate_weights(name, revision, kwargs), None
        kwargs = {"dtype": torch.float32, "use_safetensors": True} | kwargs
        read = partial(super().from_pretrained, name, *args, revision=revision or "main", **kwargs)
        folder = Path(name)

        def read_folder() -> Any:
            check_folder(folder)
            loaded = read()
            model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
            model.folder, model.read_stamps = folder.resolve(), stamps(folder)
            return loaded

        return read_unreplaced(folder, read_folder) if folder.is_dir() else read()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer in the folder of the weights; may be set."""
        if self.folder is None:
            raise InputError(
                "this model was not loaded from files: set model.tokenizer before model.predict"
            )
        try:
            return tokenizer_beside(self.folder, self.config.vocab_size)
        finally:
            if self.read_stamps.items() - stamps(self.folder).items():
                raise Replaced(
                    f"{self.folder}: was replaced after its weights were read; load the model again"
                )

    def predict(self, texts: str | Iterable[str]) -> list:
        """The entities of a text, or a list of them for each of several texts, in order.

        An entity is a dict: type, text, start and end (characters, end exclusive), words (start and
        end among the words that nerc.data.words finds in the text), confidence (a probability, see
        nerc.model.calibration).
        """
        if isinstance(texts, str):
            return next(pipeline.predict(self, self.tokenizer, [texts]))
        return list(pipeline.predict(self, self.tokenizer, texts))

    def shape(self) -> dict[str, int | float]:
        """The values of the flags of ModelConfig that describe this model."""
        config = self.config
        shape = {"lstm_hidden_size": config.lstm_hidden_size, "dropout": config.hidden_dropout_prob}
        shape |= {"word_shapes": "yes" if config.word_shapes else "no"}
        return shape | {"context": config.context}

    def forward(
        self,
        input_ids: torch.Tensor,  # (B, T)
        attention_mask: torch.Tensor | None = None,  # (B, T)
        real_pieces: torch.Tensor | None = None,  # (N,)
        word_pieces: torch.Tensor | None = None,  # (n,)
        num_words: torch.Tensor | None = None,  # (S,) on the CPU
        word_cells: torch.Tensor | None = None,  # (2, n)
        groups: list[tuple[int, int, int]] | None = None,  # rows: first, last + 1, width
        token_type_ids: torch.Tensor | None = None,  # (B, T)
        labels: torch.Tensor | None = None,  # (n,), or (B, T) without word_pieces
        word_shapes: torch.Tensor | None = None,  # (n,)
        **_,
    ) -> TokenClassifierOutput:
        """Logits (n, K) of words; with labels, also the mean cross entropy of labelled words.

        The arguments are the fields of encoding.Batch. Without word_pieces every piece counts as a
        word and the logits are (B, T, K), like those of BertForTokenClassification.
        """
        longest = self.config.max_position_embeddings
        if input_ids.shape[1] > longest:
            raise InputError(
                f"found {input_ids.shape[1]} word pieces at once, and the encoder reads at most "
                f"{longest}; use model.predict or nerc.model.pipeline.NERPipeline, which read "
                f"longer text in overlapping windows"
            )
        mask = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).bool()
        if real_pieces is None:
            real_pieces = mask.flatten().nonzero().flatten()
        words = self._encode(input_ids, real_pieces, token_type_ids, mask, groups, word_pieces)
        if self.word_shapes is not None and word_shapes is not None:
            words = words + self.word_shapes(word_shapes).to(words.dtype)
        if self.lstm is not None:
            if word_pieces is None:
                num_words = mask.sum(dim=1).cpu()
            words = bilstm(self.lstm, words, num_words, word_cells)  # (n, 2 x lstm_hidden_size)
        logits = self.classifier(self.dropout(words))  # (n, K)
        if word_pieces is None:
            logits = pad(logits, real_pieces, mask.shape)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), labels.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits)

    def _encode(
        self,
        input_ids: torch.Tensor,
        real_pieces: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        mask: torch.Tensor,
        groups: list[tuple[int, int, int]] | None,
        chosen: torch.Tensor | None,
    ) -> torch.Tensor:
        """The encoder's last hidden states of the chosen real pieces, or of all (None).

        Only attention sees padding; everything else works on the N real pieces. Shuffled sentences
        would otherwise be 62 % padding (CoNLL-2003, batches of 32). After the last attention, only
        the chosen pieces are computed.
        """
        encoder = self.base_model
        if not self.is_packed:
            grids = _grids(mask, real_pieces, groups)
            hidden = encoders.read_padded(encoder, input_ids, grids, token_type_ids)
            return hidden if chosen is None else hidden.index_select(0, chosen)
        ids = input_ids.flatten()[real_pieces]  # (N,)
        positions = real_pieces % input_ids.shape[1]
        types = None if token_type_ids is None else token_type_ids.flatten()[real_pieces]
        hidden = encoders.embed(encoder, ids, positions, types)  # (N, H)
        if torch.is_autocast_enabled(hidden.device.type):  # cast once, not at every use
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        if input_ids.device.type == "cpu":
            lengths = torch.bincount(real_pieces // input_ids.shape[1])  # of the windows
            rows = HeadRows.of(lengths, self.config.num_attention_heads, hidden.dtype)
            attend = partial(attend_on_cpu, rows=rows)
        else:
            attend = partial(attend_on_gpu, grids=_grids(mask, real_pieces, groups))
        layers = encoders.layers(encoder)
        for layer in layers:
            context = attend(layer, hidden)
            if layer is layers[-1] and chosen is not None:
                context, hidden = context.index_select(0, chosen), hidden.index_select(0, chosen)
            attended = layer.attention.output(context, hidden)
            hidden = layer.output(layer.intermediate(attended), attended)
        return hidden


def _grids(
    mask: torch.Tensor, real_pieces: torch.Tensor, groups: list[tuple[int, int, int]] | None
) -> list[Grid]:
    """The windows (B, T) as one grid or, on a CPU, as one for each of groups."""
    if mask.device.type != "cpu":  # there, many small kernels cost more than padding
        return [(slice(None), real_pieces, visible_pieces(mask))]
    if groups is None:
        return [(slice(None), real_pieces, mask)]
    grids, start = [], 0
    for first, last, width in groups:
        part = mask[first:last, :width]
        cells = part.flatten().nonzero().flatten()
        grids.append((slice(start, start + len(cells)), cells, part))
        start += len(cells)
    return grids


AutoConfig.register(NERSmallConfig.model_type, NERSmallConfig)
AutoModelForTokenClassification.register(NERSmallConfig, NERSmall)


def _locate_weights(name: str | Path, revision: str | None, kwargs: dict) -> Path:
    """The folder of a NERSmall: name, name/revision, or a branch of the Hub repository name.

    As for --repo, a folder that exists is all that is read.
    """
    folder = Path(name) / (revision or "")
    if (folder / "config.json").is_file():
        return folder
    if Path(name).is_dir():
        revisions = sorted(path.parent.name for path in Path(name).glob("*/config.json"))
        raise InputError(
            f"{folder}: holds no config.json; revisions in {name}: {', '.join(revisions) or 'none'}"
        )
    if not hub.is_name(str(name)):
        raise InputError(f"{name}: no such folder")
    access = {key: kwargs.pop(key) for key in ("token", "cache_dir") if key in kwargs}
    return hub.Repository(str(name), **access).fetch(revision or "main")
