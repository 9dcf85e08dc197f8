"""Predicts every sentence of a corpus by models that did not learn from it."""

import logging
import math
import sys
from collections.abc import Hashable

import numpy as np
from accelerate.utils import set_seed

from nerc import distributed, hardware
from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.data.corpus import Corpus
from nerc.data.random_streams import Stream, generator
from nerc.data.sources import Sources
from nerc.distributed import Session
from nerc.errors import InputError
from nerc.model.encoding import encode_for
from nerc.model.precision import Precision
from nerc.store.revisions import Store
from nerc.training import setup
from nerc.training.setup import RunSetup
from nerc.training.stages import StageRunner

logger = logging.getLogger(__name__)

_LEAST = 1e-9  # probability


def fit(
    corpus: Corpus,
    sources: Sources,
    configs: tuple[DataConfig, ModelConfig, TrainConfig],
    folds: int,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Log-probabilities (words, tags) of each sentence of corpus, and the names of the tags.

    The models learn from what a run of configs, with these sources, would learn from: sentences of
    corpus, known by their location, perhaps with repaired labels and not all of them.
    """
    which = split(corpus, folds, configs[2].seed)
    with distributed.session(None) as session:
        hardware.keep_freed_memory()
        hardware.set_threads(configs[2].num_threads)
        precision = Precision(configs[2].precision, session.accelerator)
        set_seed(configs[2].seed)  # new weights are drawn from it
        start = setup.prepare(*configs, Store("models"), precision, sources=sources)
        return _fit_folds(start, corpus, session, which), start.model.config.word_tags


def _fit_folds(
    start: RunSetup, corpus: Corpus, session: Session, which: np.ndarray
) -> list[np.ndarray]:
    """Train a model outside of each fold, from the same first weights, and predict the fold."""
    runner = StageRunner(start, session, None, (sys.maxsize, math.inf))  # no checkpoints
    fold_of = dict(zip(corpus.table["location"].to_pylist(), which.tolist(), strict=True))
    learnt = start.corpora["train"].table["location"].to_pylist()
    learnt = np.array([fold_of[location] for location in learnt])
    encoded = encode_for(start.model, start.tokenizer, corpus)
    columns = [start.model.config.inventory.index(tag) for tag in start.model.config.word_tags]
    rows = np.zeros((corpus.num_words, len(columns)))
    for fold in range(which.max() + 1):
        others, held_out = np.flatnonzero(learnt != fold), np.flatnonzero(which == fold)
        name = f"fold {fold + 1} of {which.max() + 1}"
        trained = start.training_set.encoded
        weights = runner.train(name, trained, others, epochs=start.method.epochs)
        runner.stage_outputs.clear()  # the weights of a fold are not needed again
        rows[encoded.words_of(held_out)] = runner.predict(weights, encoded, held_out)[:, columns]
    return np.split(np.log(np.maximum(rows, _LEAST)), encoded.sentence_offsets[1:-1])


def split(corpus: Corpus, folds: int, seed: int) -> np.ndarray:
    """The fold (sentences,) of each sentence, drawn so that folds have about as many words.

    Sentences of a document are in one fold or, where there are fewer documents than folds, those
    with the same words. InputError where there are fewer of these, too.
    """
    keys: list[Hashable] = corpus.table["document"].to_pylist()
    what = "documents"
    if len(set(keys)) < folds:
        keys, what = [sentence.words for sentence in corpus], "sentences with different words"
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    if len(groups) < folds:
        raise InputError(
            f"--folds {folds}: there are only {len(groups)} {what}; give fewer folds, or more "
            f"sentences"
        )
    logger.info(f"{folds} folds, of {len(groups):,} {what}")
    num_words = np.array([len(words) for words in corpus.table["words"].to_pylist()])
    sizes, which = np.zeros(folds), np.empty(len(corpus), dtype=np.int64)
    members = list(groups.values())
    for group in generator(seed, Stream.FOLDS).permutation(len(members)):
        fold = sizes.argmin()
        which[members[group]] = fold
        sizes[fold] += num_words[members[group]].sum()
    return which
