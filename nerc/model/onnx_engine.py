"""Runs a NERSmall by onnxruntime: exported to a folder, read from it, or quantised in memory.

The folder needs neither torch nor transformers nor nerc: its README.md holds code that reads it.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.modeling_outputs import TokenClassifierOutput

from nerc import files
from nerc.data.tags import may_follow
from nerc.errors import InputError
from nerc.hub import content_hash
from nerc.model import onnx_graph
from nerc.model.encoding import most_pieces
from nerc.model.modeling import NERSmall, NERSmallConfig, labels_of
from nerc.model.word_shapes import SHAPES

GRAPH, TOKENIZER, ABOUT, README = "model.onnx", "tokenizer.json", "nerc.json", "README.md"
_TEMPLATE = Path(__file__).with_name("onnx_readme.md")
_FORMAT = 1  # of the folder; the version of nerc that reads it must know it
_PIECES = ("cls", "sep", "unk")
_SHAPE = {
    "format": files.Wanted(f"{_FORMAT}", lambda value: value == _FORMAT, int),
    "labels": [str],
    "precision": files.Wanted("float32 or int8", ("float32", "int8").__contains__, str),
    "window": int,
    "pieces": dict.fromkeys(_PIECES, int),
    "word_shapes": {str: int},
    "context": str,
    "calibration?": [float],
    "sha256": {GRAPH: str, TOKENIZER: str},
}
# word_shapes.shape_id for others: the first pattern that a word's letters and digits match, with A
# for a capital, a for another letter, 0 for a digit.
SHAPE_PATTERNS = {"": "no letter and no digit", "0+": "digits", ".*0.*": "letters and digits"}
SHAPE_PATTERNS |= {
    "a+": "lower",
    "A": "one Capital",
    "A+": "UPPER",
    "Aa+": "Capital",
    ".+": "miXed",
}


class Tagger(nn.Module):
    """A graph of onnx_graph, in the place of a NERSmall in inference, pipeline and evaluator."""

    runner = "onnx"  # see inference.BATCH_PIECES

    def __init__(self, graph: bytes, config: NERSmallConfig, precision: str) -> None:
        super().__init__()
        runtime = onnx_graph.import_library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # inference computes as many batches at once as threads
        options.log_severity_level = 3  # errors
        self.config, self.name_or_path, self.precision = config, config.name_or_path, precision
        self.device = torch.device("cpu")
        self.session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = [given.name for given in self.session.get_inputs()]

    @classmethod
    def of(cls, model: NERSmall, *, int8: bool) -> "Tagger":
        """A loaded model, run by onnxruntime."""
        config = NERSmallConfig.from_dict(model.config.to_dict())
        config.id2label, config.label2id = labels_of(model.config.word_tags).values()
        config.name_or_path = model.name_or_path
        return cls(onnx_graph.build(model, int8=int8), config, "int8" if int8 else "float32")

    def forward(self, **fields: Any) -> TokenClassifierOutput:
        """Logits (n, K) of words; the arguments are the fields of encoding.Batch."""
        mask, cells = fields["attention_mask"], fields["real_pieces"][fields["word_pieces"]]
        longest = int(mask.sum(dim=1).max())  # narrower than what collate pads to
        fields |= {"word_pieces": cells // mask.shape[1] * longest + cells % mask.shape[1]}
        for name in ("input_ids", "attention_mask"):
            fields[name] = fields[name][:, :longest]
        (logits,) = self.session.run(None, {name: fields[name].numpy() for name in self.inputs})
        return TokenClassifierOutput(logits=torch.from_numpy(logits))


def export(
    folder: Path, model: NERSmall, tokenizer: PreTrainedTokenizerBase, name: str, *, int8: bool
) -> None:
    """Write the files of an exported revision to folder."""
    config = model.config
    (folder / GRAPH).write_bytes(onnx_graph.build(model, int8=int8))
    pieces = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    pieces.no_padding()
    pieces.no_truncation()
    (folder / TOKENIZER).write_text(pieces.to_str(pretty=True), encoding="utf-8")
    tags = config.word_tags
    shapes = {pattern: SHAPES.index(name) for pattern, name in SHAPE_PATTERNS.items()}
    about = {
        "format": _FORMAT,
        "revision": name,
        "precision": "int8" if int8 else "float32",
        "labels": tags,
        "starts": [may_follow(None, tag) for tag in tags],
        "transitions": [[may_follow(before, tag) for tag in tags] for before in tags],
        "calibration": config.calibration,
        "window": config.max_position_embeddings,
        "most_pieces": most_pieces(config.max_position_embeddings),
        "pieces": {piece: getattr(tokenizer, f"{piece}_token_id") for piece in _PIECES},
        "word_shapes": shapes if config.word_shapes else {},
        "context": config.context,
        "sha256": {file: content_hash(folder / file) for file in (GRAPH, TOKENIZER)},
    }
    files.write_json(folder / ABOUT, about)
    text = _TEMPLATE.read_text(encoding="utf-8").replace("REVISION", name)
    (folder / README).write_text(text, encoding="utf-8")


def load(folder: Path) -> tuple[Tagger, PreTrainedTokenizerBase]:
    """What export() wrote; InputError where a file is missing, damaged or another's."""
    if not (folder / ABOUT).exists():
        found = f"holds no {ABOUT}" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {found}, wanted a folder that python -m nerc export wrote")
    about = files.read_json(folder / ABOUT, _SHAPE)
    for file, wanted in about["sha256"].items():
        files.check_input(folder / file)
        if content_hash(folder / file) != wanted:
            raise InputError(
                f"{folder / file}: is not as {ABOUT} describes it; export the revision again"
            )
    values = labels_of(about["labels"]) | {"max_position_embeddings": about["window"]}
    values |= {name: about.get(name) for name in ("calibration", "context")}
    values |= {"word_shapes": len(SHAPES) if about["word_shapes"] else 0}
    try:
        config = NERSmallConfig.from_dict(values)
        config.name_or_path = str(folder)
        _ = config.inventory
    except InputError as error:
        raise InputError(f"{folder / ABOUT}: {error}") from None
    try:
        tagger = Tagger((folder / GRAPH).read_bytes(), config, about["precision"])
        pieces = Tokenizer.from_file(str(folder / TOKENIZER))
        special = {f"{p}_token": pieces.id_to_token(i) for p, i in about["pieces"].items()}
        if None in special.values():
            raise ValueError(f"{TOKENIZER} lacks the pieces that {ABOUT} names")
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **special)
    except InputError:
        raise
    except Exception as error:  # neither library raises a narrower class
        text = str(error).partition("\n")[0]
        raise InputError(f"{folder}: cannot be loaded: {text}; export the revision again") from None
    found = tagger.session.get_outputs()[0].shape[-1]
    if found != len(about["labels"]):
        raise InputError(
            f"{folder / ABOUT}: has {len(about['labels'])} labels, and {GRAPH} {found}; "
            f"export the revision again"
        )
    return tagger, tokenizer
