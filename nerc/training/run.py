"""Trains one model from a RunSetup and saves it as a revision."""

import logging
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from nerc import hardware
from nerc.cli import log_to
from nerc.config import StoreConfig
from nerc.distributed import Session, from_main
from nerc.evaluation import tables
from nerc.evaluation.evaluator import Evaluation, evaluate
from nerc.evaluation.metrics import Report
from nerc.files import copy_files, write_json
from nerc.store import model_files, records
from nerc.store.revisions import Store
from nerc.training.checkpoints import Checkpoints
from nerc.training.resume import read_unfinished, resume_action
from nerc.training.setup import RunSetup
from nerc.training.stages import StageRunner
from nerc.training.trainer import Epoch, Trainer, epochs_between_reports

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"


def epoch_line(epoch: Epoch) -> str:
    """One aligned line for the console; F1 and accuracy in percent."""
    line = f"epoch {epoch.number:2d}  loss {epoch.loss:7.4f}"
    if found := epoch.validation:
        line += (
            f"  validation loss {found['loss']:7.4f}  accuracy {100 * found['accuracy']:6.2f}"
            f"  F1 {100 * found['f1']:6.2f}{' *' if epoch.kept else '  '}"
        )
    return line + f"  {epoch.words_per_second:8,.0f} words/s  {epoch.seconds:6.0f} s"


def history(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """The epochs and the one that was kept, for run.json."""
    rows = [
        {
            "number": epoch.number,
            "loss": epoch.loss,
            "validation_f1": epoch.validation and epoch.validation["f1"],
            "validation_loss": epoch.validation and epoch.validation["loss"],
            "words_per_second": round(epoch.words_per_second),
            "seconds": round(epoch.seconds, 1),
        }
        for epoch in epochs
    ]
    return {"epochs": rows, "kept_epoch": [epoch.number for epoch in epochs if epoch.kept][-1]}


def train(
    start: RunSetup,
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
        store.lock(name) if main else nullcontext() as folder,
        Checkpoints(folder) if main else nullcontext() as checkpoints,
        log_to(folder / LOG_FILE) if main else nullcontext(),
    ):
        if main and keep.status is None:  # the lock is held: it is nobody else's
            session.status.path = folder / "status.json"
        todo = None
        if main:
            todo, note = resume_action(store, name, keep, checkpoints, start.description)
            if note:
                logger.info(note)
        todo = from_main(session.accelerator, todo)
        if main and todo != "the rest":
            checkpoints.clear()
        if todo == "nothing":
            return None
        bench = StageRunner(
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
            location=lambda sentence: start.corpora["train"][sentence].location,
        )
        session.status.write("running", update=training.update)
        final = train_and_evaluate(training, start, bench, session)
        if main:
            run = {"revision": name, "command": command, "id": read_unfinished(folder)["id"]}
            run |= start.description | _history(training, bench)
            run |= hardware.describe(session.accelerator)
            checkpoints.log_settings(
                records.settings(run) | {"seed": start.config.seed}, _final_scores(final)
            )
            with store.publish(folder, name, overwrite=keep.overwrite) as new:
                checkpoints.flush()
                if checkpoints.logs.exists():  # a disk may have lost them
                    copy_files(checkpoints.logs, new / "logs")
                shutil.copyfile(folder / LOG_FILE, new / LOG_FILE)
                for file, text in (beside or {}).items():
                    (new / file).write_text(text, encoding="utf-8")
                metrics = {split: report.to_json() for split, report in final.items()}
                model_files.save(new, name, start.model, start.tokenizer, metrics, run)
            checkpoints.clear()
    return final


def _history(training: Trainer, bench: StageRunner) -> dict[str, Any]:
    """What happened, for run.json."""
    seconds = round(time.perf_counter() - training.started, 1)
    what = {"resumed_at": training.resumed_at, "seconds": seconds}
    return {"stages": bench.stages} | history(training.epochs) | what


def _final_scores(found: dict[str, Report]) -> dict[str, float]:
    """What TensorBoard compares runs by."""
    return {
        f"{split}/final_{figure}": getattr(report, figure)
        for split, report in found.items()
        for figure in ("f1", "accuracy", "loss")
    }


def train_and_evaluate(
    training: Trainer, start: RunSetup, bench: StageRunner, session: Session
) -> dict[str, Report]:
    """Do the epochs that are left; the reports on validation and test of what came out.

    What validation says of the model's confidences becomes a part of the model.
    """

    def judge_on(split: str) -> Evaluation:
        return evaluate(
            start.model, start.corpora[split], start.encoded[split], accelerator=session.accelerator
        )

    def judge_epoch() -> Report:
        judged = judge_on("validation")
        if bench.folder:
            text = tables.samples(start.corpora["validation"], judged.predicted)
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
        logger.info(epoch_line(epoch))
    with session.stop.interruptible(lambda: training.save(bench.checkpoints)):
        found = {split: judge_on(split) for split in start.corpora if split != "train"}
    start.model.config.calibration = found["validation"].fit() if has_validation else None
    return {split: judged.report for split, judged in found.items()}


def resume(bench: StageRunner, session: Session, now: dict[str, Any]) -> None:
    """Put bench where the newest whole checkpoint stands, and say what is not as it was."""
    tensors, progress = {}, {}
    if bench.folder:
        tensors, progress, notes = bench.folder.read()
        for note in notes:
            logger.info(note)
        was = read_unfinished(bench.folder.folder)["precision"]
        if was != now["precision"]:
            logger.info(f"it was computed in {was}, and goes on in {now['precision']}")
        processes = session.accelerator.num_processes
        if progress["processes"] != processes:
            logger.info(
                f"it had {progress['processes']} process(es), and goes on with {processes}: the "
                f"same batches, other dropout masks"
            )
    bench.resume(tensors, from_main(session.accelerator, progress))
