"""Decides what --resume has left to do, and refuses to resume a different run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from nerc.cli import Effect, flags_with
from nerc.config import (
    COMBINATIONS,
    EARLIER_VALUES,
    DataConfig,
    ModelConfig,
    StoreConfig,
    TrainConfig,
)
from nerc.errors import InputError, Interrupted
from nerc.store import records
from nerc.store.revisions import Store
from nerc.training.checkpoints import Checkpoints

_CONFIGS = (DataConfig, ModelConfig, TrainConfig)
# A corpus is known by its content, which is compared by itself.
_IGNORED = flags_with({Effect.NONE}, *_CONFIGS) | {"corpus"}
_PLACES = flags_with({Effect.PLACE}, *_CONFIGS)
_DECIDED_BY_MACHINE = flags_with({Effect.MACHINE}, *_CONFIGS)


class ResumeAction(Enum):
    """What there is to do of a run."""

    START = "start from the beginning"
    CONTINUE = "continue from its checkpoint"
    NOTHING = "it is finished"


def resume_action(
    store: Store, name: str, keep: StoreConfig, checkpoints: Checkpoints, now: dict[str, Any]
) -> tuple[ResumeAction, str]:
    """What to do of the run that now describes, and a note if work is discarded.

    InputError if there is an interrupted run but no --resume, if it is a different run, or if a
    revision is in the way.
    """
    place, newest = store.folder / name, checkpoints.newest()
    discarded = f"the interrupted run of {name}, at update {newest}, is discarded" if newest else ""
    if not keep.resume:
        if newest and not keep.overwrite:
            raise InputError(
                f"an interrupted run of {name} is in {checkpoints.folder}; give --resume to "
                f"continue it, or --overwrite to start again"
            )
        return ResumeAction.START, discarded
    unfinished = read_unfinished(checkpoints.folder) if newest else None
    finished = records.read_run(place) if place.exists() else None
    if unfinished and finished and finished.get("id") == unfinished["id"]:
        return ResumeAction.NOTHING, ""  # it was killed while it removed its checkpoints
    known = unfinished or finished
    changes = differences(known, now) if known else []
    if changes and not keep.overwrite:
        folder = checkpoints.folder if unfinished else place
        raise InputError(f"--resume: {folder} is of another run: {_refusal(known, changes)}")
    if changes:
        return ResumeAction.START, discarded and f"{discarded}: {'; '.join(changes)}"
    if finished and not unfinished:
        return ResumeAction.NOTHING, ""
    store.check_free(name, overwrite=keep.overwrite)
    return (ResumeAction.CONTINUE if unfinished else ResumeAction.START), ""


def _refusal(known: dict[str, Any], changes: list[str]) -> str:
    method = known["config"].get("combine")
    if method not in (None, *COMBINATIONS):
        return (
            f"it combines labels by --combine {method}, which nerc no longer has; finish it with "
            f"the version that began it, or give --overwrite to start again"
        )
    return f"{'; '.join(changes)}; give the same settings, or --overwrite to start again"


@contextmanager
def resume_advice(store: Store, name: str) -> Iterator[None]:
    """Add to Interrupted how to resume, if there is a checkpoint."""
    try:
        yield
    except Interrupted as interrupted:
        folder = store.run_folder(name)
        if newest := Checkpoints(folder).newest():
            interrupted.advice = (
                f"its checkpoint is of update {newest:,}, in {folder}; continue with the same "
                f"command and --resume"
            )
        raise


def differences(known: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between the descriptions of two runs that can change results, in words."""
    old, new = EARLIER_VALUES | known["config"], json.loads(json.dumps(now["config"]))
    changes = []
    # Flags of old that nerc no longer has do not count.
    for name in (name for name in new if name not in _IGNORED):
        before, after = old.get(name), new[name]
        if name in _PLACES and before and after:
            before, after = Path(before).name, Path(after).name
        is_decided_alike = name in _DECIDED_BY_MACHINE and known.get(name) == now[name]
        if before != after and not is_decided_alike:
            changes.append(f"--{name.replace('_', '-')} was {before}, is {after}")
    for split in dict.fromkeys([*known["data"], *now["data"]]):
        before, after = known["data"].get(split), now["data"].get(split)
        if before != after:
            changes.append(
                f"the {split} split was {_describe_split(before)}, is {_describe_split(after)}"
            )
    if not changes and known.get("pieces_sha256", now["pieces_sha256"]) != now["pieces_sha256"]:
        changes.append("the encoder's tokenizer cuts the words into other pieces")
    return changes


def _describe_split(corpus: dict[str, Any] | None) -> str:
    if corpus is None:
        return "missing"
    return f"{corpus['sentences']} sentences (SHA-256 {corpus['sha256'][:8]})"


def precision_so_far(store: Store, name: str) -> str | None:
    """The precision of the unfinished run of a revision; None where there is none."""
    folder = store.run_folder(name)
    return read_unfinished(folder)["precision"] if Checkpoints(folder).newest() else None


def read_unfinished(folder: Path) -> dict[str, Any]:
    """run.json of an unfinished run, as train() began it."""
    try:
        known = records.read_run(folder)
    except InputError:
        known = {}
    if not all(isinstance(known.get(name), str) for name in ("id", "precision")):
        raise InputError(
            f"{folder / 'run.json'}: is missing or damaged; give --overwrite without --resume to "
            f"start again"
        )
    return known
