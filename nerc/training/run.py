"""Trains one model from a RunSetup and saves it as a revision."""

import logging
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from nerc import hardware
from nerc.cli import log_to
from nerc.config import StoreConfig
from nerc.distributed import Session, from_main
from nerc.evaluation import evaluator, tables
from nerc.evaluation.evaluator import Evaluation
from nerc.evaluation.metrics import Report
from nerc.files import copy_files, write_json
from nerc.store import model_files, records
from nerc.store.revisions import Store
from nerc.tables import counted
from nerc.training.checkpoints import Checkpoints
from nerc.training.resume import ResumeAction, read_unfinished, resume_action
from nerc.training.setup import RunSetup
from nerc.training.stages import FINAL_STAGE, StageRunner
from nerc.training.trainer import Epoch, Trainer, TrainingData, epochs_between_reports

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"


def epoch_line(epoch: Epoch) -> str:
    """One aligned line for the console; F1 and accuracy in percent."""
    line = f"epoch {epoch.number:2d}  loss {epoch.loss:7.4f}"
    if scores := epoch.validation:
        line += (
            f"  validation loss {scores['loss']:7.4f}  accuracy {100 * scores['accuracy']:6.2f}"
            f"  F1 {100 * scores['f1']:6.2f}{' *' if epoch.kept else '  '}"
        )
    return line + f"  {epoch.words_per_second:8,.0f} words/s  {epoch.seconds:6.0f} s"


def history(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """The epochs, and the one that was kept, for run.json."""
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
    extra_files: Mapping[str, str] | None = None,
) -> dict[str, Report] | None:
    """Train from start, or from an earlier process's checkpoint, and keep the revision.

    extra_files: further files of the revision, name and text. Returns the reports on validation and
    test; None if the run was finished already.
    """
    is_main = session.is_main
    with (
        store.lock(name) if is_main else nullcontext() as folder,
        Checkpoints(folder) if is_main else nullcontext() as checkpoints,
        log_to(folder / LOG_FILE) if is_main else nullcontext(),
    ):
        if is_main and keep.status is None:  # only the holder of the lock may write there
            session.status.path = folder / "status.json"
        run = _Run(start, name, store, keep, session, checkpoints)
        action = run.choose_action()
        if action is ResumeAction.NOTHING:
            return None
        runner = run.start_runner(action)
        training, reports = run.train_and_evaluate(runner)
        for split, report in reports.items():
            table = tables.report_table({name: report}, split)
            logger.info(f"\n{tables.count_line(report, split)}\n{table}")
        if is_main:
            run.publish(runner, training, reports, command, extra_files or {})
    logger.info(f"\nsaved as {store.folder / name} after {runner.seconds:.0f} s")
    return reports


@dataclass(frozen=True)
class _Run:
    """A run and its checkpoints, which is None in all processes but the main one."""

    start: RunSetup
    name: str
    store: Store
    keep: StoreConfig
    session: Session
    checkpoints: Checkpoints | None

    def choose_action(self) -> ResumeAction:
        """What --resume and --overwrite make of what is there, the same in every process."""
        action = None
        if self.checkpoints:
            known = self.start.description
            action, note = resume_action(self.store, self.name, self.keep, self.checkpoints, known)
            if note:
                logger.info(note)
            if action is not ResumeAction.CONTINUE:
                self.checkpoints.clear()
        return from_main(self.session.accelerator, action)

    def start_runner(self, action: ResumeAction) -> StageRunner:
        """A StageRunner at the beginning of the run, or at its newest undamaged checkpoint."""
        runner = StageRunner(self.start, self.session, self.checkpoints, self.keep.interval)
        if action is ResumeAction.CONTINUE:
            tensors, progress = self._read_checkpoint() if self.checkpoints else ({}, {})
            runner.resume(tensors, from_main(self.session.accelerator, progress))
        elif self.checkpoints:
            description = {"id": uuid.uuid4().hex} | self.start.description
            write_json(self.checkpoints.folder / "run.json", description)
        return runner

    def _read_checkpoint(self) -> tuple[dict, dict]:
        """Tensors and progress of the newest checkpoint; logs what is different now."""
        tensors, progress, notes = self.checkpoints.read()
        for note in notes:
            logger.info(note)
        before = read_unfinished(self.checkpoints.folder)["precision"]
        if before != self.start.precision:
            logger.info(f"it was computed in {before} and continues in {self.start.precision}")
        processes = self.session.accelerator.num_processes
        if progress["processes"] != processes:
            logger.info(
                f"it ran in {counted(progress['processes'], 'process')} and continues in "
                f"{counted(processes, 'process')}: the same batches, other dropout masks"
            )
        return tensors, progress

    def train_and_evaluate(self, runner: StageRunner) -> tuple[Trainer, dict[str, Report]]:
        """Do all stages that are left; the final training, and the reports on what it gave.

        The evaluation on validation also calibrates the model's confidences.
        """
        start, session = self.start, self.session
        encoded, weights = start.method.prepare(start.training_set, runner, start.settings)
        sentences = start.method.sentences(start.training_set, start.settings)

        def location(sentence: int) -> str:
            return start.corpora["train"][sentence].location

        def report() -> Report:
            return self._evaluate("validation").report

        training = runner.start_training(
            FINAL_STAGE,
            TrainingData(encoded, sentences, location=location),
            start.config,
            start=weights,
            log=self.checkpoints.log if self.checkpoints else None,
        )
        session.status.write("running", update=training.update)
        evaluate_every = 1
        if has_validation := "validation" in start.corpora:
            num_words = encoded.num_words(sentences).sum()
            num_validation_words = start.corpora["validation"].num_words
            evaluate_every = epochs_between_reports(num_words, num_validation_words)
        epochs = training.run(report if has_validation else None, runner.schedule, evaluate_every)
        for epoch in epochs:
            if epoch.validation or epoch.kept:
                logger.info(epoch_line(epoch))
        with session.stop.interruptible(training.save):
            final = {split: self._evaluate(split) for split in start.corpora if split != "train"}
        calibration = final["validation"].fit() if "validation" in final else None
        start.model.config.calibration = calibration
        return training, {split: evaluation.report for split, evaluation in final.items()}

    def _evaluate(self, split: str) -> Evaluation:
        corpus, encoded = self.start.corpora[split], self.start.encoded[split]
        accelerator = self.session.accelerator
        return evaluator.evaluate(self.start.model, corpus, encoded, accelerator=accelerator)

    def publish(
        self,
        runner: StageRunner,
        training: Trainer,
        reports: dict[str, Report],
        command: str,
        extra_files: Mapping[str, str],
    ) -> None:
        """Write the revision, and remove the checkpoints."""
        start, checkpoints, folder = self.start, self.checkpoints, self.checkpoints.folder
        record = {"revision": self.name, "command": command, "id": read_unfinished(folder)["id"]}
        record |= start.description | {"stages": runner.stages} | history(training.epochs)
        record |= {"resumed_at": training.resumed_at, "seconds": round(runner.seconds, 1)}
        record |= hardware.describe(self.session.accelerator)
        settings = records.settings(record) | {"seed": start.config.seed}
        scores = {  # by which TensorBoard compares runs
            f"{split}_{figure}": getattr(report, figure)
            for split, report in reports.items()
            for figure in ("f1", "accuracy", "loss")
        }
        checkpoints.log_settings(settings, scores, training.update)
        with self.store.publish(folder, self.name, overwrite=self.keep.overwrite) as new:
            checkpoints.flush()
            if checkpoints.logs.exists():  # a disk may have lost them
                copy_files(checkpoints.logs, new / "logs")
            shutil.copyfile(folder / LOG_FILE, new / LOG_FILE)
            for file, text in extra_files.items():
                (new / file).write_text(text, encoding="utf-8")
            metrics = {split: report.to_json() for split, report in reports.items()}
            model_files.save(new, self.name, start.model, start.tokenizer, metrics, record)
        checkpoints.clear()
