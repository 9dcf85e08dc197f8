"""Train a tagger and keep it as a revision.

python train.py --corpus sample --recipe strong       the built-in corpus, no network, minutes
accelerate launch train.py --data gold                CoNLL-2003's expert labels, every GPU
accelerate launch train.py --data llm --corpus DIR    the labels a language model wrote
accelerate launch train.py --data mixed --expert 240 --corpus DIR
python train.py --start main --data gold --revision main_tuned
"""

# What takes seconds to import is imported where it is used, so that --help and a mistyped flag
# are answered at once.
import shlex
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial

from nerc.config import (
    DataConfig,
    ModelConfig,
    StoreConfig,
    TrainConfig,
    one_line_errors,
    parse,
)

PROGRAM = "train.py"


def main(argv: list[str]) -> None:
    configs = parse(argv, PROGRAM, __doc__, DataConfig, ModelConfig, TrainConfig, StoreConfig)
    with one_line_errors(PROGRAM):
        run(*configs, command=shlex.join([PROGRAM, *argv]))


def run(
    data: DataConfig, network: ModelConfig, config: TrainConfig, keep: StoreConfig, *, command: str
) -> None:
    """Train and keep one revision."""
    started = time.perf_counter()
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from nerc import encoding, machine, reports, revisions, training
    from nerc.data import check_tags
    from nerc.prediction import judge

    store = revisions.Store(keep.repo)
    name = keep.revision or revisions.default_name(data)
    store.check_free(name, overwrite=keep.overwrite)
    if network.start is not None:
        store.path(network.start)
    accelerator = Accelerator()
    say = partial(accelerator.print, flush=True)
    threads = machine.set_threads(config.num_threads)
    precision = machine.choose_precision(config.precision, accelerator.device)

    corpora = load_corpora(data, config, say)
    set_seed(config.seed)  # new weights are drawn from it
    network = with_defaults(network, data)
    data = replace(data, expert=data.expert_amount)
    model, tokenizer = starting_point(network, store, corpora["train"])
    for corpus in corpora.values():
        check_tags(corpus, model.config.inventory, f"the model to train ({name})")
    store.check_room(revisions.num_bytes(model))
    config = config.resolved(
        hidden_size=model.config.hidden_size, num_layers=model.config.num_hidden_layers
    )
    encoded = {s: encoding.encode_for(model, tokenizer, c) for s, c in corpora.items()}
    for split, pieces in encoded.items():
        for remark in pieces.remarks:
            say(f"{split}: {remark}")
    say(
        f"{name}: {len(corpora['train']):,} sentences, {corpora['train'].num_words:,} words; "
        f"recipe {config.recipe}, {precision}, {accelerator.num_processes} process(es) on "
        f"{accelerator.device.type}, {threads} thread(s) each"
    )

    def report_on(split: str):
        return judge(model, corpora[split], encoded[split], accelerator=accelerator)

    main_process = accelerator.is_main_process
    with store.writing(name, overwrite=keep.overwrite) if main_process else nullcontext() as folder:
        set_seed(
            (config.seed + accelerator.process_index) % 2**32
        )  # other dropout in every process
        epochs = []
        with tensorboard(folder) as log:
            for epoch in training.fit(
                model,
                encoded["train"],
                config,
                accelerator,
                bf16=precision == "bf16",
                judge=partial(report_on, "validation") if "validation" in encoded else None,
                log=log,
                origin=lambda sentence: corpora["train"][sentence].origin,
            ):
                say(reports.epoch_line(epoch))
                epochs.append(epoch)
        final = {split: report_on(split) for split in corpora if split != "train"}
        if main_process:
            record = {
                "revision": name,
                "command": command,
                "config": asdict(data) | asdict(network) | model.shape() | asdict(config),
                "precision": precision,
                "data": {split: corpus.describe() for split, corpus in corpora.items()},
                **reports.history(epochs),
                "seconds": round(time.perf_counter() - started, 1),
                **machine.describe(accelerator),
            }
            revisions.save(folder, name, model, tokenizer, final, record)
    for split, report in final.items():
        say(f"\n{reports.counted(report, split)}\n{reports.table({name: report}, split)}")
    say(f"\nkept as {store.folder / name} after {time.perf_counter() - started:.0f} s")
    if config.recipe == "paper":
        say("this was the published recipe; --recipe strong gives the best F1 we know")
    accelerator.end_training()


def load_corpora(data: DataConfig, config: TrainConfig, say) -> dict:
    """Corpora of train, validation and test; what a run can do without may be missing, aloud."""
    from nerc.data import MissingSplit, load, training_corpus

    corpora = {"train": training_corpus(data, config.seed)}
    for split in ("validation", "test"):
        try:
            corpora[split] = load(data.corpus, split)
        except MissingSplit as error:
            if split == "validation" and config.keep == "best":
                raise MissingSplit(
                    f"{error}; --keep best chooses by it, --keep last needs none"
                ) from None
            say(f"{error}: no report on it")
    for corpus in corpora.values():
        for remark in corpus.remarks:
            say(remark)
    return corpora


def with_defaults(network: ModelConfig, data: DataConfig) -> ModelConfig:
    """The network with encoder and sizes decided; with --start the revision decides."""
    from nerc import model

    if network.start is not None:
        return network
    is_sample = data.corpus.partition(":")[0] == "sample"
    encoder = network.encoder or ("tiny" if is_sample else "bert-base-cased")
    size, dropout = network.lstm_hidden_size, network.dropout
    default_size = model.TINY_LSTM_HIDDEN_SIZE if encoder == "tiny" else model.LSTM_HIDDEN_SIZE
    return replace(
        network,
        encoder=encoder,
        lstm_hidden_size=default_size if size is None else size,
        dropout=0.1 if dropout is None else dropout,
    )


def starting_point(network: ModelConfig, store, corpus) -> tuple:
    """Model and tokenizer before training: of a revision, a pretrained encoder, or new."""
    from nerc import encoding, model, revisions

    if network.start is not None:
        tagger, tokenizer = revisions.load_revision(store.path(network.start))
        if network.dropout is not None:
            model.set_dropout(tagger, network.dropout)
        return tagger, tokenizer
    shape = {"lstm_hidden_size": network.lstm_hidden_size, "dropout": network.dropout}
    if network.encoder == "tiny":
        tokenizer = encoding.learn_tokenizer(corpus, model.TINY_VOCAB_SIZE)
        return model.tiny(len(tokenizer), corpus.inventory(), **shape), tokenizer
    tagger = model.from_encoder(network.encoder, corpus.inventory(), **shape)
    return tagger, encoding.load_tokenizer(network.encoder, tagger.config.vocab_size)


def tensorboard(folder):
    """A context whose log(tag, value, update) writes curves to folder/logs; no folder: nowhere."""
    from contextlib import contextmanager

    from torch.utils.tensorboard import SummaryWriter

    @contextmanager
    def writing():
        with SummaryWriter(str(folder / "logs")) as writer:
            yield writer.add_scalar

    return writing() if folder else nullcontext(lambda tag, value, update: None)


if __name__ == "__main__":
    main(sys.argv[1:])
