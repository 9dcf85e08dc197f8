"""Labels words with a GLiNER model, which finds entities of types that are named in plain words.

Source: Zaratiana et al., "GLiNER: Generalist Model for Named Entity Recognition using Bidirectional
Transformer", 2023.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import huggingface_hub
import numpy as np
import torch

from nerc import hub
from nerc.data.tags import entity_tags
from nerc.errors import InputError
from nerc.files import read_json
from nerc.model.encoding import Window, windows
from nerc.model.loading import LOADING_ERRORS, quiet

logger = logging.getLogger(__name__)
CONFIG = "gliner_config.json"
# For a word that the tokenizer drops, since GLiNER then moves the next words' entities by one; and
# for a word that is too long.
_UNREADABLE = "?"
_LEAST, _MOST = 16, 4096  # sub-words of a sentence that a model must read, or is given


def load(model: str) -> Any:
    """The GLiNER model in a folder, or of a name on the Hub; on the GPU, if there is one."""
    try:
        library = import_module("gliner")
    except ImportError as error:
        raise InputError(
            f"--labeller gliner needs its library; pip install 'gliner>=0.2.24,<0.3' ({error})"
        ) from None
    folder = Path(model)
    advice = "fetch the model again"
    try:
        with quiet():
            if not folder.is_dir():
                if not hub.may_be_model(model):
                    raise InputError("no such folder")
                advice = f"hf download {model} where there is a network; --model takes its folder"
                folder = Path(huggingface_hub.snapshot_download(model))
            config = read_json(folder / CONFIG, {"model_name": str, "encoder_config?": dict})
            if "auto_map" in str(config):
                raise InputError(f"{folder / CONFIG}: names code (auto_map), which nerc never runs")
            if not (folder / "tokenizer_config.json").exists() or not config.get("encoder_config"):
                advice += f"; it also needs its encoder: hf download {config['model_name']}"
            device = "cuda" if torch.cuda.is_available() else "cpu"
            loaded = library.GLiNER.from_pretrained(str(folder), map_location=device)
    except InputError as error:
        raise InputError(f"--model {model}: {error}; wanted a GLiNER model") from None
    except (*LOADING_ERRORS, UnpicklingError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"--model {model}: cannot be loaded ({what}); {advice}") from None
    tokenizer, index = loaded.data_processor.transformer_tokenizer, loaded.config.class_token_index
    if index >= 0 and tokenizer.convert_ids_to_tokens([index]) != [loaded.config.ent_token]:
        raise InputError(
            f"--model {model}: its tokenizer lacks GLiNER's {loaded.config.ent_token} at number "
            f"{index}; do {CONFIG} and the tokenizer belong together?"
        )
    loaded.data_processor.words_splitter = _split
    return loaded


def _split(text: str) -> Iterator[tuple[str, int, int]]:
    """Words with their start and end counted in words, by which GLiNER then gives its entities.

    They come as lines of a text, so that GLiNER does not divide them otherwise.
    """
    return ((word, place, place + 1) for place, word in enumerate(text.split("\n")))


def label(
    model: Any,
    sentences: Sequence[Sequence[str]],
    names: Mapping[str, str],
    threshold: float,
    batch_size: int = 8,
) -> Iterator[list[dict[str, float]]]:
    """For each sentence, for each of its words, the probabilities of IOB2 tags; they sum to 1.

    names: for each type the words that GLiNER is asked for. The words of an entity have GLiNER's
    score, to four digits; the rest of 1 is that of O. Only scores above threshold count, and of
    entities that overlap only the one with the highest. GLiNER would cut what is too long for it;
    here it reads windows that overlap, and words that it cannot read count as ?.
    """
    types = {text: type_ for type_, text in names.items()}
    if len(types) < len(names):
        raise InputError(f"two types have the same words: {', '.join(map(repr, names.values()))}")
    tokenizer, most_words = model.data_processor.transformer_tokenizer, model.config.max_len
    room, num_unreadable = _room(model, types), 0
    for first in range(0, len(sentences), batch_size):
        cut, texts = [], []
        for words in sentences[first : first + batch_size]:
            how = {"is_split_into_words": True, "add_special_tokens": False, "verbose": False}
            sizes = Counter(tokenizer(list(words), **how).word_ids())
            # The windows' rule wants words of a quarter of a window at most.
            unreadable = {place for place in range(len(words)) if not 0 < sizes[place] <= room // 4}
            num_unreadable += len(unreadable)
            words = [_UNREADABLE if i in unreadable else word for i, word in enumerate(words)]
            sizes = [1 if i in unreadable else sizes[i] for i in range(len(words))]
            # At most room sub-words in a window, and at most most_words words.
            weights = np.maximum(np.array(sizes) * most_words, room)
            cut.append(windows(weights, room * most_words))
            texts += ["\n".join(words[window.start : window.end]) for window in cut[-1]]
        how = {"flat_ner": True, "threshold": threshold, "batch_size": batch_size}
        found = iter(model.inference(texts, list(types), **how))
        yield from (_tags([(window, next(found)) for window in one], types) for one in cut)
    if num_unreadable:
        logger.warning(
            f"GLiNER read {num_unreadable:,} words as {_UNREADABLE}: its tokenizer knows nothing "
            f"of them, or makes more than {room // 4} sub-words of one"
        )


def _room(model: Any, texts: Iterable[str]) -> int:
    """How many sub-words of a text the model reads beside the types that it is asked for."""
    prompt = [part for text in texts for part in (model.config.ent_token, text)]
    tokenizer = model.data_processor.transformer_tokenizer
    prompt = tokenizer([*prompt, model.config.sep_token], is_split_into_words=True)["input_ids"]
    positions = getattr(model.config.encoder_config, "max_position_embeddings", None)
    most = min(tokenizer.model_max_length, positions or _MOST)
    if most < len(prompt) + _LEAST:
        raise InputError(
            f"the words for the types are {len(prompt)} sub-words, and --model reads {most} with "
            f"the sentence; wanted fewer types, or shorter words for them"
        )
    return most - len(prompt)


def _tags(
    found: Sequence[tuple[Window, list[dict[str, Any]]]], types: Mapping[str, str]
) -> list[dict[str, float]]:
    """The probabilities of a sentence's tags; found: its windows, and the entities in each."""
    tags = [{"O": 1.0} for _ in range(found[-1][0].end)]
    free = 0  # the first word after the entities so far: neighbouring windows may disagree
    for window, entities in found:
        for entity in entities:
            start, end = window.start + entity["start"], window.start + entity["end"]
            if window.own_start <= start < window.own_end and start >= free:
                free, score = end, round(entity["score"], 4)
                for i, tag in enumerate(entity_tags(types[entity["label"]], end - start), start):
                    tags[i] = {tag: score, "O": round(1 - score, 4)}
    return tags
