__doc__ = """\
Find labels that are probably wrong: entities missed, spurious, of a wrong type, cut or grown.

python -m nerc suspects --corpus DIR --output suspects          the expert labels of train.txt
python -m nerc suspects --corpus DIR --data llm --output suspects    the weak labels of llm.txt
python -m nerc suspects --corpus sample --data llm --output suspects

Every sentence is tagged by models that did not learn from it. Where their entities differ from the
given ones, the place is a suspect; the most suspicious come first. --output gets suspects.csv with
all of them, and suspects.html and questions.jsonl with the first ones for people.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import check_flag, option, parse, start_logging
from nerc.config import (
    FORMATS,
    PRECISION_HELP,
    THREADS_HELP,
    DataConfig,
    ModelConfig,
    TrainConfig,
    check_columns,
)
from nerc.errors import InputError, one_line_errors, visible
from nerc.tables import markdown

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc suspects"
NUM_SHOWN = 20  # suspects that are printed


@dataclass(frozen=True)
class SuspectsConfig:
    __doc__ = "Which labels to check, by what models, and where to write the suspects."

    corpus: str = option(
        "sample", "folder with train.txt or, for --data llm, llm.txt (and llm.NAME.txt); or sample"
    )
    data: str = option(
        "gold",
        "whose labels to check: experts' (gold) or a language model's (llm)",
        ("gold", "llm"),
    )
    columns: str | None = option(
        None, "the columns of the word and of the tag in train.txt, as in train.py"
    )
    encoder: str | None = option(
        None, "pretrained encoder of the models, as in train.py; tiny for --corpus sample"
    )
    folds: int = option(
        5,
        "how many models to train; each learns from all documents (or sentences, if there are few "
        "documents) but its share of them, which it then tags",
    )
    epochs: int | None = option(
        None, "passes of each model over its sentences. Default: as in train.py --recipe strong"
    )
    seed: int = option(0, "seed of the folds and of the models")
    precision: str = option("auto", PRECISION_HELP, ("auto", "float32", "bf16"))
    num_threads: int = option(0, THREADS_HELP)
    top: int = option(500, "how many suspects suspects.html and questions.jsonl have at most")
    exchange: tuple[str, ...] = option(
        (),
        "formats of the questions: those that the tool imports in which people correct the labels. "
        "Default: jsonl",
        FORMATS[:5],
    )
    output: str | None = option(None, "folder to write to, which is created if needed")

    def __post_init__(self) -> None:
        check_flag(self.output is not None, "output", "a folder to write to", self.output)
        check_flag(2 <= self.folds <= 100, "folds", "2 to 100", self.folds)
        check_flag(self.top >= 1, "top", "1 or more", self.top)
        check_columns(self.columns)
        self.models  # noqa: B018

    @property
    def models(self) -> tuple[DataConfig, ModelConfig, TrainConfig]:
        """What the models learn from, their network, and how they are trained."""
        data = DataConfig(data=self.data, corpus=self.corpus, columns=self.columns)
        training = {"epochs": self.epochs, "num_threads": self.num_threads, "keep": "last"}
        training |= {"seed": self.seed, "precision": self.precision}
        return data, ModelConfig(encoder=self.encoder), TrainConfig(**training)


def run(config: SuspectsConfig) -> None:
    """Train the models, rank the suspects, print the first and write all."""
    output = Path(config.output)
    files.check_folder(output, "--output")

    from nerc.annotation import cross_fitting, suspect_files, suspects
    from nerc.data import labels, sources

    data, network, training = config.models
    if config.data == "llm":
        read = sources.Sources(weak=sources.load(config.corpus, "llm"))
        given = labels.repair(read.weak, ())
    else:
        read = sources.Sources(train=sources.load(config.corpus, "train", config.columns))
        given = read.train
    rows, word_tags = cross_fitting.fit(given, read, (data, network, training), config.folds)
    found = suspects.find(given, rows, word_tags)
    if not found:
        raise InputError(f"--corpus {config.corpus}: the models agree with every label: no suspect")
    suspect_files.write(
        output, given, found, rows, word_tags, config.top, config.exchange or ("jsonl",)
    )
    print(f"\n{markdown(suspect_files.top_table(given, found[:NUM_SHOWN]))}")
    print(f"\n{markdown(suspect_files.count_table(found, config.top))}")
    print(f"\nwritten to {visible(config.output)}: suspects.csv, suspects.html, and questions")


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, SuspectsConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)
