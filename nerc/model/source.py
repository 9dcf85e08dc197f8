"""Checks the files of a model, which others may have written, before transformers reads them."""

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import BertConfig
from transformers.activations import ACT2FN

from nerc.errors import InputError
from nerc.files import Wanted, check_input, check_shape, parse_json, read_json
from nerc.model import encoders

_SIZE = Wanted("a whole number above 0", lambda value: value > 0, int)
_RATE = Wanted("a probability below 1", lambda value: 0 <= value < 1, float)
_NO = Wanted("false", lambda value: not value, bool)
_DTYPE = Wanted("float32, float16 or bfloat16", lambda value: value in _DTYPES, str)
_DTYPES = ("float64", "float32", "float16", "bfloat16", "auto")
# A window of six pieces has room for four besides [CLS] and [SEP], and a word may fill a quarter.
_POSITIONS = Wanted("6 or more", lambda value: value >= 6, int)
_CONFIG = {
    "model_type?": str,
    "_name_or_path?": str,
    "vocab_size?": _SIZE,
    "hidden_size?": _SIZE,
    "num_hidden_layers?": _SIZE,
    "num_attention_heads?": _SIZE,
    "intermediate_size?": _SIZE,
    "type_vocab_size?": Wanted("0 or more", lambda value: value >= 0, int),  # DeBERTa has 0
    "max_position_embeddings?": _POSITIONS,
    "lstm_hidden_size?": Wanted("0 or more", lambda value: value >= 0, int),
    "context?": Wanted("document or none", lambda value: value in ("document", "none"), str),
    "word_shapes?": Wanted("0 to 256", lambda value: 0 <= value <= 256, int),
    "hidden_act?": Wanted("the name of an activation", lambda name: name in ACT2FN, str),
    "hidden_dropout_prob?": _RATE,
    "attention_probs_dropout_prob?": _RATE,
    "classifier_dropout?": _RATE,
    "layer_norm_eps?": Wanted("a number above 0", lambda value: value > 0, float),
    "initializer_range?": Wanted("0 or more", lambda value: value >= 0, float),
    "calibration?": Wanted("a slope and an offset", lambda values: len(values) == 2, [float]),
    "num_labels?": Wanted("1 to 100,000", lambda value: 0 < value <= 100_000, int),
    "id2label?": {str: str},
    "is_decoder?": _NO,
    "add_cross_attention?": _NO,
    "dtype?": _DTYPE,
    "torch_dtype?": _DTYPE,
}
# What the configurations of encoders other than BERT share; transformers checks the rest.
_ENCODER = {"model_type": str}
_ENCODER |= {f"{name}?": _SIZE for name in encoders.SHARED if name != "pad_token_id"}
_ENCODER |= {f"{name}?": _NO for name in ("is_decoder", "add_cross_attention")}
_CONFIG["encoder?"] = _ENCODER
_FLOATS = ("F64", "F32", "F16", "BF16")
_SPARE = 10_000_000  # weights that config.json may describe and the files may lack: a new head


def check_config(values: Mapping[str, Any]) -> None:
    """Raise InputError that names the field where config.json describes no network of ours."""
    values = parse_json(json.dumps(values, default=str), _CONFIG)
    encoders.check_fields(values, BertConfig)
    if (encoder := values.get("encoder")) is not None:
        encoders.shared(encoder)
        return
    check_shape(values, {"type_vocab_size?": _SIZE})
    sizes = _sizes(values)
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise InputError(
            f"num_attention_heads is {sizes['num_attention_heads']}, wanted a number that divides "
            f"hidden_size, {sizes['hidden_size']}"
        )
    pad = values.get("pad_token_id")
    if pad is not None and not (isinstance(pad, int) and 0 <= pad < sizes["vocab_size"]):
        raise InputError(
            f"pad_token_id is {pad}, wanted one of the vocabulary, or below "
            f"vocab_size, {sizes['vocab_size']}"
        )


def _sizes(values: Mapping[str, Any]) -> dict[str, int]:
    names = [name.removesuffix("?") for name, wanted in _CONFIG.items() if wanted is _SIZE]
    names += ["type_vocab_size"]
    sizes = {name: values.get(name) or getattr(BertConfig, name) for name in names}
    return sizes | {"lstm_hidden_size": values.get("lstm_hidden_size") or 0}


def check_folder(folder: Path) -> dict[str, Any]:
    """The values in config.json; InputError unless they, and the weights, may be read.

    transformers compares the two, but a few bytes must not describe a network that fills the
    memory before.
    """
    for file in ("config.json", "model.safetensors"):
        if not any((folder / f"{file}{end}").exists() for end in ("", ".index.json")):
            raise InputError(
                f"{folder}: holds no {file}, wanted config.json, model.safetensors and a "
                f"tokenizer, as save_pretrained writes them (pickled weights are not read)"
            )
    for path in folder.iterdir():
        if not path.name.startswith(".") and not path.is_dir():
            check_input(path)
    config = folder / "config.json"
    values = read_json(config, _CONFIG)
    try:
        ours = encoders.as_ours(values)
        check_config(ours)
        wanted = _num_described(ours)
    except InputError as error:
        raise InputError(f"{config}: {error}") from None
    found = sum(num for path in _weight_files(folder) for num in _num_weights(path))
    if wanted > found + _SPARE:
        raise InputError(
            f"{config}: describes a network of {wanted:,} weights, and its files hold {found:,}; "
            f"do config.json and model.safetensors belong together?"
        )
    return values


def _num_described(values: Mapping[str, Any]) -> int:
    """About how many weights the network has that a config.json of ours describes."""
    size, encoder = _sizes(values), values.get("encoder")
    if encoder is not None:
        width, wanted = encoders.shared(encoder)["hidden_size"], encoders.num_weights(encoder)
    else:
        width, inner = size["hidden_size"], size["intermediate_size"]
        rows = size["vocab_size"] + size["type_vocab_size"]
        rows += values.get("max_position_embeddings") or BertConfig.max_position_embeddings
        wanted = rows * width + size["num_hidden_layers"] * 2 * width * (2 * width + inner)
    units = size["lstm_hidden_size"]
    return wanted + 8 * units * (width + units)


def _weight_files(folder: Path) -> list[Path]:
    """The files of the weights: one, or those that an index in the folder names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if shards := [path.name for path in folder.glob("shard-*.safetensors")]:
        raise InputError(f"{folder}: holds {shards[0]}, wanted model.safetensors")
    if whole.exists():
        return [whole]
    names = read_json(index, {"weight_map": {str: str}, "metadata": dict})["weight_map"].values()
    for name in names:
        if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
            raise InputError(
                f"{index}: names {name!r}, wanted names of safetensors files beside it"
            )
    return [folder / name for name in sorted({*names})]


def _num_weights(path: Path) -> Iterator[int]:
    """The number of weights in each tensor of a safetensors file."""
    check_input(path)
    try:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118, it is no dict
                about = tensors.get_slice(name)
                # Old versions of transformers saved position_ids.
                if about.get_dtype() not in _FLOATS and not name.endswith("_ids"):
                    raise InputError(
                        f"{path}: {name} has numbers of type {about.get_dtype()}, wanted "
                        f"{', '.join(_FLOATS)}"
                    )
                yield prod(about.get_shape())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be loaded: {error}") from None
