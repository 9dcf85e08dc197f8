"""Prepares a run: corpora, encodings, model, tokenizer and every setting resolved."""

import hashlib
import logging
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.data import labels
from nerc.data.corpus import Corpus, check_tags
from nerc.data.pool import open_pool
from nerc.data.sources import Sources, load_sources, read_sources
from nerc.errors import InputError
from nerc.model import encoding, loading, modeling
from nerc.model.encoding import Encoded
from nerc.model.precision import Precision
from nerc.model.tokenizer import DEFAULT_ENCODER, learn_tokenizer, load_tokenizer
from nerc.model.word_shapes import SHAPES, folds_case
from nerc.recipes import RECIPES
from nerc.store import model_files, query_records
from nerc.store.revisions import Store
from nerc.training import combine
from nerc.training.combine import CombinationMethod, CombinationSettings, TrainingSet
from nerc.training.stages import StageSetup

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunSetup(StageSetup):
    """What a run starts from, with every setting resolved; the same in every process."""

    corpora: dict[str, Corpus]  # train, and validation and test if there are any
    encoded: dict[str, Encoded]
    tokenizer: PreTrainedTokenizerBase
    config: TrainConfig  # of the final stage
    method: CombinationMethod
    settings: CombinationSettings = CombinationSettings()
    training_set: TrainingSet
    description: dict[str, Any]  # config and data, which identify the run

    def with_settings(self, settings: CombinationSettings) -> "RunSetup":
        """The same run, whose combination method has other settings."""
        sentences = self.method.sentences(self.training_set, settings)
        config = self.resolve(len(sentences), self.method.epochs)
        description = self.description | {"config": self.description["config"] | asdict(config)}
        return replace(self, settings=settings, config=config, description=description)


def prepare(
    data: DataConfig,
    network: ModelConfig,
    config: TrainConfig,
    store: Store,
    precision: Precision,
    *,
    sources: Sources | None = None,
    acquired: labels.AcquiredLabels | None = None,
) -> RunSetup:
    """Load everything; new weights are drawn from torch's global generator.

    sources: what read_sources() gave, for a command that makes several runs.
    """
    started = time.perf_counter()
    data = data.resolved(config.recipe)
    sources = sources or read_sources(data, config.keep, with_train=acquired is None)
    if "auto" in data.repair:
        data = replace(data, repair=labels.choose_repairs(sources.weak))
    mixed = labels.mix(sources, data, config.seed, acquired)
    corpora = {"train": mixed.corpus, "validation": sources.validation, "test": sources.test}
    corpora = {split: corpus for split, corpus in corpora.items() if corpus is not None}
    for note in (note for corpus in corpora.values() for note in corpus.notes):
        logger.info(note)
    described = {split: corpus.describe() for split, corpus in corpora.items()}
    network = with_defaults(network, data, config.recipe)
    tagger, tokenizer = starting_point(network, store, mixed.corpus)
    places = mixed.places()
    if tagger.config.context == "document":
        order = mixed.corpus.text_order()
        corpora["train"] = mixed.corpus.select(order)
        places = tuple(np.argsort(order)[of_kind] for of_kind in places)
    inventory = tagger.config.inventory
    for corpus in corpora.values():
        check_tags(corpus, inventory, "the model to train")
    encoded = _encode(corpora, tagger, tokenizer)
    if (soft := labels.soft_targets(corpora["train"], inventory)) is not None:
        encoded["train"] = replace(encoded["train"], targets=soft)
    method = combine.METHODS[data.combine] if data.combine else combine.SINGLE_SOURCE
    if data.data == "llm":
        method = method._replace(epochs=RECIPES[config.recipe].get("epochs_llm"))
    description = {
        "config": asdict(data) | asdict(network) | tagger.shape(),
        "data": described,
        "pieces_sha256": hashlib.sha256(encoded["train"].pieces.tobytes()).hexdigest(),
    } | precision.describe(tagger.config)
    return RunSetup(
        model=tagger,
        given_config=config,
        precision=description["precision"],
        started=started,
        corpora=corpora,
        encoded=encoded,
        tokenizer=tokenizer,
        config=config,
        method=method,
        training_set=TrainingSet(encoded["train"], *places, len(inventory)),
        description=description,
    ).with_settings(CombinationSettings())


def _encode(
    corpora: dict[str, Corpus], tagger: modeling.NERSmall, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Encoded]:
    """The encodings of all splits, of which the log says what is unusual."""
    encoded = {s: encoding.encode_for(tagger, tokenizer, c) for s, c in corpora.items()}
    for split, pieces in encoded.items():
        for note in pieces.notes:
            logger.info(f"{split}: {note}")
    return encoded


def training_sentences(run: dict[str, Any], folder: Path) -> Corpus | None:
    """The labelled sentences that a revision was trained on; None, with a line, if unavailable."""
    try:
        mixed = _rebuild_training_corpus(run, folder)
    except InputError as error:
        logger.info(f"{error}: no scores by what training had")
        return None
    return mixed.corpus.select(range(mixed.num_expert + mixed.num_weak))


def expert_sentences(run: dict[str, Any], folder: Path) -> Corpus:
    """The expert sentences that a revision was trained on; InputError if unavailable."""
    mixed = _rebuild_training_corpus(run, folder)
    return mixed.corpus.select(range(mixed.num_expert))


def _rebuild_training_corpus(run: dict[str, Any], folder: Path) -> labels.MixedCorpus:
    config, active = run.get("config", {}), run.get("active")
    fingerprint = run.get("data", {}).get("train", {}).get("sha256")
    is_known = fingerprint and {"data", "corpus", "seed"} <= config.keys()
    if not is_known or (active and not {"oracle", "types"} <= active.get("plan", {}).keys()):
        raise InputError(f"{folder}: no run.json says what the revision was trained on")
    values = {f.name: config[f.name] for f in fields(DataConfig) if f.name in config}
    values["repair"] = tuple(values.get("repair", ()))  # JSON has lists
    data, acquired = DataConfig(**values), None
    if active:
        plan, with_weak = active["plan"], data.data == "mixed"
        about = {"types": plan["types"], "columns": data.columns}
        pool = open_pool(data.corpus, plan["oracle"], with_weak=with_weak, **about)
        acquired = pool.acquired_labels(query_records.read(folder))
    sources = load_sources(data, with_train=acquired is None, optional=())
    mixed = labels.mix(sources, data, config["seed"], acquired)
    if mixed.corpus.fingerprint() != fingerprint:
        raise InputError(f"the training sentences of {data.corpus} have changed")
    return mixed


def with_defaults(network: ModelConfig, data: DataConfig, recipe: str) -> ModelConfig:
    """The network with encoder and sizes decided; with --start, the revision decides.

    What the recipe leaves open of word_shapes depends on the tokenizer.
    """
    if network.start is not None:
        return network
    is_sample = data.corpus.partition(":")[0] == "sample"
    encoder = network.encoder or ("tiny" if is_sample else DEFAULT_ENCODER)
    size = loading.TINY_LSTM_HIDDEN_SIZE if encoder == "tiny" else loading.LSTM_HIDDEN_SIZE
    default = {"encoder": encoder, "lstm_hidden_size": size, "dropout": 0.1}
    default |= {"word_shapes": RECIPES[recipe]["word_shapes"], "context": "none"}
    given = {name: value for name, value in asdict(network).items() if value is not None}
    return replace(network, **(default | given))


def starting_point(
    network: ModelConfig, store: Store, corpus: Corpus
) -> tuple[modeling.NERSmall, PreTrainedTokenizerBase]:
    """Model and tokenizer before training: a revision's, a pretrained encoder's, or new ones."""
    if network.start is not None:
        folder = store.path(network.start)
        tagger, tokenizer = model_files.load_revision(folder, tokenizer=network.tokenizer)
        if network.dropout is not None:
            loading.set_dropout(tagger, network.dropout)
        return tagger, tokenizer
    shape = {"lstm_hidden_size": network.lstm_hidden_size, "dropout": network.dropout}
    if network.encoder == "tiny":
        tokenizer = learn_tokenizer(corpus, loading.TINY_VOCAB_SIZE)
        tagger = loading.tiny(len(tokenizer), corpus.inventory(), **shape)
    else:
        tagger = loading.from_encoder(network.encoder, corpus.inventory(), **shape)
        tokenizer = load_tokenizer(network.encoder, tagger.config.vocab_size)
    tagger.config.context = network.context
    is_blind = network.word_shapes is None and folds_case(tokenizer)
    if is_blind:
        logger.info(
            "the encoder's tokenizer folds capitals to small letters, so the model also reads the "
            "shapes of words; --word-shapes no leaves them out"
        )
    if is_blind or network.word_shapes == "yes":
        tagger.read_word_shapes(len(SHAPES))
    return tagger, tokenizer
