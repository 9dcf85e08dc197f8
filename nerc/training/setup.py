"""Prepares a run: corpora, encodings, model, tokenizer and every setting resolved."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.data import labels, tags
from nerc.data.corpus import Corpus, check_tags
from nerc.data.pool import QUERIES_FILE, open_pool, read_queries
from nerc.data.sources import MissingSplit, load
from nerc.errors import InputError
from nerc.model import encoding, loading, modeling
from nerc.model.encoding import Encoded
from nerc.model.tokenizer import DEFAULT_ENCODER, learn_tokenizer, load_tokenizer
from nerc.recipes import RECIPES
from nerc.store import model_files
from nerc.store.revisions import Store
from nerc.training import combine
from nerc.training.combine import CombinationMethod, TrainingSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSetup:
    """What a run starts from, with every setting decided; the same in every process."""

    corpora: dict[str, Corpus]  # train, and validation and test where there are any
    encoded: dict[str, Encoded]
    model: modeling.NERSmall
    tokenizer: PreTrainedTokenizerBase
    config: TrainConfig  # of the training that gives the model
    configure: Callable[[int, int | None], TrainConfig]  # of another one; see combining.Bench
    arm: CombinationMethod
    material: TrainingSet
    description: dict[str, Any]  # its config and data, by which a run is known
    started: float  # time.perf_counter() when the loading began


def prepare(
    data: DataConfig,
    network: ModelConfig,
    config: TrainConfig,
    store: Store,
    precision: str,
    bought: labels.AcquiredLabels | None = None,
) -> RunSetup:
    """Load everything; new weights are drawn from torch's global generator."""
    started = time.perf_counter()
    data = data.resolved(config.recipe)
    labelled, corpora = load_corpora(data, config, bought)
    network = with_defaults(network, data)
    tagger, tokenizer = starting_point(network, store, corpora["train"])
    for corpus in corpora.values():
        check_tags(corpus, tagger.config.inventory, "the model to train")
    size = {
        "hidden_size": tagger.config.hidden_size,
        "num_layers": tagger.config.num_hidden_layers,
    }

    def configure(num_sentences: int, epochs: int | None = None) -> TrainConfig:
        return config.resolved(num_sentences=num_sentences, epochs=epochs, **size)

    encoded = {s: encoding.encode_for(tagger, tokenizer, c) for s, c in corpora.items()}
    for split, pieces in encoded.items():
        for note in pieces.notes:
            logger.info(f"{split}: {note}")
    arm = combine.METHODS[data.combine] if data.combine else combine.SINGLE_SOURCE
    if data.data == "llm":
        arm = arm._replace(epochs=RECIPES[config.recipe].get("epochs_llm"))
    if (soft := labels.soft_targets(corpora["train"], tagger.config.inventory)) is not None:
        encoded["train"] = replace(encoded["train"], targets=soft)
    ids = {tag: i for i, tag in enumerate(tagger.config.inventory)}
    ids |= dict.fromkeys(tags.SPECIAL_TAGS, encoding.NO_LABEL)
    material = TrainingSet(
        encoded["train"],
        *labelled.places(),
        len(tagger.config.inventory),
        # A type that the model has not is no label that it can read.
        np.array([ids.get(t, encoding.NO_LABEL) for t in labelled.cheap_too or ()], dtype=np.int64),
    )
    last = configure(len(arm.sentences(material)), arm.epochs)
    description = {
        "config": asdict(data) | asdict(network) | tagger.shape() | asdict(last),
        "precision": precision,
        "data": {split: corpus.describe() for split, corpus in corpora.items()},
        "pieces_sha256": hashlib.sha256(encoded["train"].pieces.tobytes()).hexdigest(),
    }
    return RunSetup(
        corpora, encoded, tagger, tokenizer, last, configure, arm, material, description, started
    )


def load_corpora(
    data: DataConfig,
    config: TrainConfig,
    bought: labels.AcquiredLabels | None = None,
) -> tuple[labels.MixedCorpus, dict[str, Corpus]]:
    """Corpora of train, validation and test; what a run can do without may be missing, aloud."""
    labelled = labels.training_corpus(data, config.seed, bought)
    corpora = {"train": labelled.corpus} | held_out(data, config)
    for corpus in corpora.values():
        for note in corpus.notes:
            logger.info(note)
    return labelled, corpora


def held_out(data: DataConfig, config: TrainConfig) -> dict[str, Corpus]:
    """Validation and test, which may be missing, aloud; InputError where --keep needs one."""
    corpora = {}
    for split in ("validation", "test"):
        try:
            corpora[split] = load(data.corpus, split)
        except MissingSplit as error:
            if split == "validation" and config.keep == "best":
                raise MissingSplit(
                    f"{error}; --keep best chooses by it, --keep last needs none"
                ) from None
            logger.info(f"{error}: no report on it")
    return corpora


def training_sentences(run: dict[str, Any], folder: Path) -> Corpus | None:
    """What the revision in folder was trained on; None, said, where it is not at hand."""
    try:
        labelled = _rebuild_training_corpus(run, folder)
        return labelled.corpus.select(range(labelled.expert + labelled.cheap))
    except KeyError:
        logger.info("no run.json says what it was trained on: no scores by what training had")
    except InputError as error:
        logger.info(f"{error}: no scores by what training had")
    return None


def expert_sentences(run: dict[str, Any], folder: Path) -> Corpus:
    """The sentences with experts' labels among those; InputError where they are not at hand."""
    labelled = _rebuild_training_corpus(run, folder)
    return labelled.corpus.select(range(labelled.expert))


def _rebuild_training_corpus(run: dict[str, Any], folder: Path) -> labels.MixedCorpus:
    config, bought = run["config"], None
    chosen = {f.name: config[f.name] for f in fields(DataConfig) if f.name in config}
    chosen["repair"] = tuple(chosen.get("repair", ()))  # JSON has lists
    if about := run.get("active"):
        plan = about["plan"]
        pool = open_pool(
            config["corpus"],
            plan["oracle"],
            with_weak=config["data"] == "mixed",
            types=plan["types"],
        )
        bought = pool.acquired_labels(read_queries(folder / QUERIES_FILE))
    labelled = labels.training_corpus(DataConfig(**chosen), config["seed"], bought)
    if labelled.corpus.fingerprint() != run["data"]["train"]["sha256"]:
        raise InputError(f"the training sentences of {config['corpus']} have changed")
    return labelled


def with_defaults(network: ModelConfig, data: DataConfig) -> ModelConfig:
    """The network with encoder and sizes decided; with --start the revision decides."""
    if network.start is not None:
        return network
    is_sample = data.corpus.partition(":")[0] == "sample"
    encoder = network.encoder or ("tiny" if is_sample else DEFAULT_ENCODER)
    size, dropout = network.lstm_hidden_size, network.dropout
    default_size = loading.TINY_LSTM_HIDDEN_SIZE if encoder == "tiny" else loading.LSTM_HIDDEN_SIZE
    return replace(
        network,
        encoder=encoder,
        lstm_hidden_size=default_size if size is None else size,
        dropout=0.1 if dropout is None else dropout,
    )


def starting_point(
    network: ModelConfig, store: Store, corpus: Corpus
) -> tuple[modeling.NERSmall, PreTrainedTokenizerBase]:
    """Model and tokenizer before training: of a revision, a pretrained encoder, or new."""
    if network.start is not None:
        folder = store.path(network.start)
        tagger, tokenizer = model_files.load_revision(folder, tokenizer=network.tokenizer)
        if network.dropout is not None:
            loading.set_dropout(tagger, network.dropout)
        return tagger, tokenizer
    shape = {"lstm_hidden_size": network.lstm_hidden_size, "dropout": network.dropout}
    if network.encoder == "tiny":
        tokenizer = learn_tokenizer(corpus, loading.TINY_VOCAB_SIZE)
        return loading.tiny(len(tokenizer), corpus.inventory(), **shape), tokenizer
    tagger = loading.from_encoder(network.encoder, corpus.inventory(), **shape)
    return tagger, load_tokenizer(network.encoder, tagger.config.vocab_size)
