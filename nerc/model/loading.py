"""Makes NERSmall models: new, from a pretrained encoder, or from a revision's folder."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import logging

from nerc import hub
from nerc.errors import InputError
from nerc.model import encoders
from nerc.model.modeling import NERSmall, NERSmallConfig, labels_of
from nerc.model.source import check_folder

# --encoder tiny: small enough to learn the built-in corpus from scratch in minutes on two cores.
TINY = {"hidden_size": 128, "intermediate_size": 512}
TINY |= {"num_hidden_layers": 2, "num_attention_heads": 4}
TINY_VOCAB_SIZE = 4000
TINY_LSTM_HIDDEN_SIZE = 128
LSTM_HIDDEN_SIZE = 512


def tiny(
    vocab_size: int, inventory: Sequence[str], *, lstm_hidden_size: int, dropout: float
) -> NERSmall:
    """A small NERSmall with random weights, drawn from torch's global generator."""
    shape = TINY | _dropouts(dropout) | labels_of(inventory)
    return NERSmall(
        NERSmallConfig(vocab_size=vocab_size, lstm_hidden_size=lstm_hidden_size, **shape)
    )


def from_encoder(
    name: str, inventory: Sequence[str], *, lstm_hidden_size: int, dropout: float
) -> NERSmall:
    """A NERSmall with a new head on a pretrained encoder, which is a folder or a Hub name."""
    if _model_type(name) == NERSmallConfig.model_type:
        raise InputError(
            f"{name}: is a model of type 'nerc', wanted an encoder; give it to --start"
        )
    values = _dropouts(dropout) | labels_of(inventory)
    with _loading(name):
        config = NERSmallConfig.from_pretrained(name, lstm_hidden_size=lstm_hidden_size, **values)
    if config.encoder is not None:
        config.encoder = encoders.with_dropout(config.encoder, dropout)
    return _load(name, new_head=True, config=config)


def load(name: str) -> NERSmall:
    """The NERSmall in a folder, with its head; also reads a BertForTokenClassification."""
    _model_type(name)
    model = _load(name, new_head=False)
    _ = model.config.inventory  # InputError where its labels are not tags
    return model


_IN_LAYER = re.compile(r"\blayers?\.\d+\.")  # what the names of an encoder's layers have
# What transformers raises when the files of a model are damaged, missing or out of reach.
LOADING_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)
LOADING_ERRORS += (SafetensorError, StrictDataclassError, httpx2.HTTPError)


def _model_type(name: str) -> str:
    """What a folder or a Hub name holds; InputError unless it may be read."""
    folder = Path(name)
    if folder.is_dir():
        model_type = check_folder(folder).get("model_type")
    elif hub.may_be_model(name):
        with _loading(name):
            values = PreTrainedConfig.get_config_dict(name)[0]
        model_type = values.get("model_type")
    else:
        raise InputError(f"{name}: no such folder")
    if model_type != NERSmallConfig.model_type:
        try:
            encoders.check_type(model_type)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return model_type


def _load(name: str, *, new_head: bool, **kwargs) -> NERSmall:
    kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with _loading(name):
        model, loaded = NERSmall.from_pretrained(name, **kwargs)
    missing = {*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])}
    of_encoder = model.base_model_prefix + "."
    missing = {key for key in missing if key.startswith(of_encoder) or not new_head}
    of_head = ("lstm.", "word_shapes.") if new_head else ("lstm.", "word_shapes.", "head.")
    unexpected = loaded["unexpected_keys"]
    surplus = [k for k in unexpected if _IN_LAYER.search(k) or k.startswith(of_head)]
    for keys, fault in (
        (missing, "lack {} tensors of the right shape, such as {}"),
        (surplus, "have {} tensors, such as {}, that are not in config.json"),
    ):
        if keys:
            raise InputError(
                f"{name}: its weights {fault.format(len(keys), min(keys))}; do config.json and "
                f"model.safetensors belong together?"
            )
    if not model.is_packed:
        try:
            encoders.check_reading(model.base_model)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    for key, weights in model.named_parameters():
        if not weights.sum().isfinite() and not weights.isfinite().all():
            raise InputError(
                f"{name}: its weights have values that are not finite, in {key}; fetch it again, "
                f"or train it again with a lower --lr or with --clip"
            )
    return model


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turn errors of damaged, missing or unreachable files into an InputError; quietly."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except LOADING_ERRORS as error:
        what = f"{type(error).__name__}: {error}"
        if Path(name).is_dir():
            raise InputError(f"{name}: cannot be loaded: {what}") from None
        raise InputError(
            f"{name}: no such folder, and it cannot be loaded from the Hub ({what}); give a folder "
            f"that holds an encoder, or --encoder tiny, which needs none"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' tables and progress bars; _load checks what they would report."""
    huggingface_hub.logging.set_verbosity_error()  # hide retries, too: their outcome is reported
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def set_dropout(model: NERSmall, dropout: float) -> None:
    """Set every dropout rate of a model and of its configuration."""
    for name, value in _dropouts(dropout).items():
        setattr(model.config, name, value)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    if model.config.encoder is not None:  # which may keep its rates elsewhere than in modules
        model.config.encoder = encoders.with_dropout(model.config.encoder, dropout)
        model.rebuild_encoder()


def _dropouts(dropout: float) -> dict[str, float]:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    return dict.fromkeys(names, dropout)
