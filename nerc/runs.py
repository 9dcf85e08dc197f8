"""A run, from its settings to the revision: what it starts from, what is left to do, doing it."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc import (
    combining,
    encoding,
    labels,
    machine,
    model,
    queries,
    records,
    reports,
    revisions,
    tags,
)
from nerc.checkpoints import Checkpoints
from nerc.combining import Arm, Bench, Material
from nerc.config import (
    RECIPES,
    DataConfig,
    InputError,
    Interrupted,
    ModelConfig,
    StoreConfig,
    TrainConfig,
)
from nerc.data import Corpus, MissingSplit, check_tags, load
from nerc.encoding import Encoded
from nerc.files import copy_files, write_json
from nerc.launch import Session, from_main
from nerc.metrics import Report
from nerc.prediction import Judged, judge
from nerc.revisions import Store
from nerc.training import Training, epochs_between_reports

# Flags that change no result; the corpus is known by what is in it, not by where it lies.
_CHANGE_NOTHING = ("num_threads", "micro_batch_words", "corpus")


@dataclass(frozen=True)
class Start:
    """What a run starts from, with every setting decided; the same in every process."""

    corpora: dict[str, Corpus]  # train, and validation and test where there are any
    encoded: dict[str, Encoded]
    model: model.NERSmall
    tokenizer: PreTrainedTokenizerBase
    config: TrainConfig  # of the training that gives the model
    configure: Callable[[int, int | None], TrainConfig]  # of another one; see combining.Bench
    arm: Arm
    material: Material
    description: dict[str, Any]  # its config and data, by which a run is known
    started: float  # time.perf_counter() when the loading began


def prepare(
    data: DataConfig,
    network: ModelConfig,
    config: TrainConfig,
    store: Store,
    precision: str,
    say: Callable[[str], None],
    bought: labels.Bought | None = None,
) -> Start:
    """Load everything; new weights are drawn from torch's global generator."""
    started = time.perf_counter()
    data = data.resolved(config.recipe)
    labelled, corpora = load_corpora(data, config, say, bought)
    network = with_defaults(network, data)
    tagger, tokenizer = starting_point(network, store, corpora["train"], say)
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
        for remark in pieces.remarks:
            say(f"{split}: {remark}")
    arm = combining.ARMS[data.combine] if data.combine else combining.ALONE
    if data.data == "llm":
        arm = arm._replace(epochs=RECIPES[config.recipe].get("epochs_llm"))
    if (soft := labels.targets(corpora["train"], tagger.config.inventory)) is not None:
        encoded["train"] = replace(encoded["train"], targets=soft)
    ids = {tag: i for i, tag in enumerate(tagger.config.inventory)}
    ids |= dict.fromkeys(tags.SPECIAL_TAGS, encoding.NO_LABEL)
    material = Material(
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
    return Start(
        corpora, encoded, tagger, tokenizer, last, configure, arm, material, description, started
    )


def load_corpora(
    data: DataConfig,
    config: TrainConfig,
    say: Callable[[str], None],
    bought: labels.Bought | None = None,
) -> tuple[labels.Labelled, dict[str, Corpus]]:
    """Corpora of train, validation and test; what a run can do without may be missing, aloud."""
    labelled = labels.training_corpus(data, config.seed, bought)
    corpora = {"train": labelled.corpus} | held_out(data, config, say)
    for corpus in corpora.values():
        for remark in corpus.remarks:
            say(remark)
    return labelled, corpora


def held_out(
    data: DataConfig, config: TrainConfig, say: Callable[[str], None]
) -> dict[str, Corpus]:
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
            say(f"{error}: no report on it")
    return corpora


def training_sentences(
    run: dict[str, Any], folder: Path, say: Callable[[str], None]
) -> Corpus | None:
    """What the revision in folder was trained on; None, said, where it is not at hand."""
    try:
        labelled = _learnt_from(run, folder)
        return labelled.corpus.select(range(labelled.expert + labelled.cheap))
    except KeyError:
        say("no run.json says what it was trained on: no scores by what training had")
    except InputError as error:
        say(f"{error}: no scores by what training had")
    return None


def expert_sentences(run: dict[str, Any], folder: Path) -> Corpus:
    """The sentences with experts' labels among those; InputError where they are not at hand."""
    labelled = _learnt_from(run, folder)
    return labelled.corpus.select(range(labelled.expert))


def _learnt_from(run: dict[str, Any], folder: Path) -> labels.Labelled:
    config, bought = run["config"], None
    chosen = {f.name: config[f.name] for f in fields(DataConfig) if f.name in config}
    chosen["repair"] = tuple(chosen.get("repair", ()))  # JSON has lists
    if about := run.get("active"):
        plan = about["plan"]
        pool = queries.open_pool(
            config["corpus"],
            plan["oracle"],
            with_cheap=config["data"] == "mixed",
            types=plan["types"],
        )
        bought = pool.bought(queries.read(folder / queries.FILE))
    labelled = labels.training_corpus(DataConfig(**chosen), config["seed"], bought)
    if labelled.corpus.fingerprint() != run["data"]["train"]["sha256"]:
        raise InputError(f"the training sentences of {config['corpus']} have changed")
    return labelled


def with_defaults(network: ModelConfig, data: DataConfig) -> ModelConfig:
    """The network with encoder and sizes decided; with --start the revision decides."""
    if network.start is not None:
        return network
    is_sample = data.corpus.partition(":")[0] == "sample"
    encoder = network.encoder or ("tiny" if is_sample else encoding.DEFAULT_ENCODER)
    size, dropout = network.lstm_hidden_size, network.dropout
    default_size = model.TINY_LSTM_HIDDEN_SIZE if encoder == "tiny" else model.LSTM_HIDDEN_SIZE
    return replace(
        network,
        encoder=encoder,
        lstm_hidden_size=default_size if size is None else size,
        dropout=0.1 if dropout is None else dropout,
    )


def starting_point(
    network: ModelConfig, store: Store, corpus: Corpus, say: Callable[[str], None]
) -> tuple[model.NERSmall, PreTrainedTokenizerBase]:
    """Model and tokenizer before training: of a revision, a pretrained encoder, or new."""
    if network.start is not None:
        folder = store.path(network.start, say)
        tagger, tokenizer = revisions.load_revision(folder, tokenizer=network.tokenizer, say=say)
        if network.dropout is not None:
            model.set_dropout(tagger, network.dropout)
        return tagger, tokenizer
    shape = {"lstm_hidden_size": network.lstm_hidden_size, "dropout": network.dropout}
    if network.encoder == "tiny":
        tokenizer = encoding.learn_tokenizer(corpus, model.TINY_VOCAB_SIZE)
        return model.tiny(len(tokenizer), corpus.inventory(), **shape), tokenizer
    tagger = model.from_encoder(network.encoder, corpus.inventory(), **shape)
    return tagger, encoding.load_tokenizer(network.encoder, tagger.config.vocab_size)


def train(
    start: Start,
    name: str,
    store: Store,
    keep: StoreConfig,
    session: Session,
    command: str,
    beside: Mapping[str, str] | None = None,
) -> dict[str, Report] | None:
    """Train from start, or from where an earlier process came to, and keep the revision.

    beside: further files of the revision, name and text. Gives its reports on validation and test;
    None where there was nothing left to do.
    """
    main = session.is_main
    with (
        store.working(name) if main else nullcontext() as folder,
        Checkpoints(folder) if main else nullcontext() as checkpoints,
    ):
        if main and keep.status is None:  # the lock is held: it is nobody else's
            session.status.path = folder / "status.json"
        todo = None
        if main:
            todo, remark = left_to_do(store, name, keep, checkpoints, start.description)
            if remark:
                session.say(remark)
        todo = from_main(session.accelerator, todo)
        if main and todo != "the rest":
            checkpoints.clear()
        if todo == "nothing":
            return None
        bench = Bench(
            start.model,
            start.configure,
            session,
            checkpoints,
            keep.interval,
            bf16=start.description["precision"] == "bf16",
            started=start.started,
        )
        if todo == "the rest":
            resume(bench, session, start.description)
        elif main:
            write_json(folder / "run.json", {"id": uuid.uuid4().hex} | start.description)
        material, weights = start.arm.prepare(start.material, bench)
        training = bench.enter(
            "last",
            material,
            start.arm.sentences(start.material),
            start.config,
            start=weights,
            log=checkpoints.log if main else lambda *_: None,
            origin=lambda sentence: start.corpora["train"][sentence].origin,
        )
        session.status.write("running", update=training.update)
        final = finish(training, start, bench, session)
        if main:
            run = {"revision": name, "command": command, "id": _read(folder)["id"]}
            run |= start.description | _history(training, bench)
            run |= machine.describe(session.accelerator)
            checkpoints.log_settings(
                records.settings(run) | {"seed": start.config.seed}, _final_scores(final)
            )
            with store.publishing(folder, name, overwrite=keep.overwrite) as new:
                checkpoints.flush()
                if checkpoints.logs.exists():  # a disk may have lost them
                    copy_files(checkpoints.logs, new / "logs")
                for file, text in (beside or {}).items():
                    (new / file).write_text(text, encoding="utf-8")
                revisions.save(new, name, start.model, start.tokenizer, final, run)
            checkpoints.clear()
    return final


def _history(training: Training, bench: Bench) -> dict[str, Any]:
    """What happened, for run.json."""
    seconds = round(time.perf_counter() - training.started, 1)
    what = {"resumed_at": training.resumed_at, "seconds": seconds}
    return {"stages": bench.stages} | reports.history(training.epochs) | what


def _final_scores(found: dict[str, Report]) -> dict[str, float]:
    """What TensorBoard compares runs by."""
    return {
        f"{split}/final_{figure}": getattr(report, figure)
        for split, report in found.items()
        for figure in ("f1", "accuracy", "loss")
    }


def finish(training: Training, start: Start, bench: Bench, session: Session) -> dict[str, Report]:
    """Do the epochs that are left; the reports on validation and test of what came out.

    What validation says of the model's confidences becomes a part of the model.
    """

    def judge_on(split: str) -> Judged:
        return judge(
            start.model, start.corpora[split], start.encoded[split], accelerator=session.accelerator
        )

    def judge_epoch() -> Report:
        judged = judge_on("validation")
        if bench.folder:
            text = reports.samples(start.corpora["validation"], judged.predicted)
            bench.folder.log_text("validation/predictions", text, training.update)
        return judged.report

    has_validation = "validation" in start.corpora
    own = training.train.num_words(training.sentences).sum()
    others = start.corpora["validation"].num_words if has_validation else 0
    for epoch in training.run(
        judge_epoch if has_validation else None,
        session.stop,
        session.status,
        bench.checkpoints,
        bench.interval,
        epochs_between_reports(own, others),
    ):
        session.say(reports.epoch_line(epoch))
    with session.stop.at_once(lambda: training.save(bench.checkpoints)):
        found = {split: judge_on(split) for split in start.corpora if split != "train"}
    start.model.config.calibration = found["validation"].fit() if has_validation else None
    return {split: judged.report for split, judged in found.items()}


def resume(bench: Bench, session: Session, now: dict[str, Any]) -> None:
    """Put bench where the newest whole checkpoint stands, and say what is not as it was."""
    tensors, progress = {}, {}
    if bench.folder:
        tensors, progress, remarks = bench.folder.read()
        for remark in remarks:
            session.say(remark)
        was = _read(bench.folder.folder)["precision"]
        if was != now["precision"]:
            session.say(f"it was computed in {was}, and goes on in {now['precision']}")
        processes = session.accelerator.num_processes
        if progress["processes"] != processes:
            session.say(
                f"it had {progress['processes']} process(es), and goes on with {processes}: the "
                f"same batches, other dropout masks"
            )
    bench.resume(tensors, from_main(session.accelerator, progress))


def left_to_do(
    store: Store, name: str, keep: StoreConfig, checkpoints: Checkpoints, now: dict[str, Any]
) -> tuple[str, str]:
    """Of the run that now describes: "all", "the rest" (from a checkpoint) or "nothing".

    And a remark where work is thrown away. InputError where there is an interrupted run but no
    --resume, or one that is not this run, or a revision that would be in the way.
    """
    place, newest = store.folder / name, checkpoints.newest()
    thrown = f"the interrupted run of {name}, at update {newest}, is thrown away" if newest else ""
    if not keep.resume:
        if newest and not keep.overwrite:
            raise InputError(
                f"an interrupted run of {name} is in {checkpoints.folder}; give --resume to go on "
                f"with it, or --overwrite to start anew"
            )
        return "all", thrown
    known = _read(checkpoints.folder) if newest else None
    kept = records.read_run(place) if place.exists() else None
    if known and kept and kept.get("id") == known["id"]:
        return "nothing", ""  # a kill came after the last step but one
    changes = differences(known or kept, now) if known or kept else []
    if changes and not keep.overwrite:
        raise InputError(
            f"--resume: {checkpoints.folder if known else place} is of another run: "
            f"{'; '.join(changes)}; give what it was, or --overwrite to start anew"
        )
    if changes:
        return "all", thrown and f"{thrown}: {'; '.join(changes)}"
    if kept and not known:
        return "nothing", ""
    store.check_free(name, overwrite=keep.overwrite)
    return ("the rest" if known else "all"), ""


@contextmanager
def advised(store: Store, name: str) -> Iterator[None]:
    """Let Interrupted say how to go on, where there is something to go on from."""
    try:
        yield
    except Interrupted as interrupted:
        folder = store.run_folder(name)
        if newest := Checkpoints(folder).newest():
            interrupted.advice = (
                f"its checkpoint is of update {newest:,}, in {folder}; go on with the same command "
                f"and --resume"
            )
        raise


def differences(known: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what two descriptions of runs differ, where it matters, in words."""
    old, new = known["config"], json.loads(json.dumps(now["config"]))
    found = []
    for name in dict.fromkeys([*old, *new]):
        one, two = old.get(name), new.get(name)
        if name == "encoder" and one and two:  # machines keep it in different places
            one, two = Path(one).name, Path(two).name
        if name == "precision" and known.get("precision") == now["precision"]:
            continue  # auto came to the same
        if name not in _CHANGE_NOTHING and one != two:
            found.append(f"--{name.replace('_', '-')} was {one}, is {two}")
    for split in dict.fromkeys([*known["data"], *now["data"]]):
        one, two = known["data"].get(split), now["data"].get(split)
        if one != two:
            found.append(f"the {split} split was {_size(one)}, is {_size(two)}")
    if not found and known.get("pieces_sha256", now["pieces_sha256"]) != now["pieces_sha256"]:
        found.append("the encoder's tokenizer cuts the words into other pieces")
    return found


def _size(corpus: dict[str, Any] | None) -> str:
    if corpus is None:
        return "missing"
    return f"{corpus['sentences']} sentences (SHA-256 {corpus['sha256'][:8]})"


def _read(folder: Path) -> dict[str, Any]:
    """run.json of an unfinished run, as train() began it."""
    try:
        known = records.read_run(folder)
    except InputError:
        known = {}
    if not all(isinstance(known.get(name), str) for name in ("id", "precision")):
        raise InputError(
            f"{folder / 'run.json'}: is missing or damaged; give --overwrite without --resume to "
            f"start anew"
        )
    return known
