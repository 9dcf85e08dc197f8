"""Decides what --resume has left to do, and refuses to resume a different run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerc.config import StoreConfig
from nerc.errors import InputError, Interrupted
from nerc.store import records
from nerc.store.revisions import Store
from nerc.training.checkpoints import Checkpoints

# Flags that change no result; the corpus is known by what is in it, not by where it lies.
_CHANGE_NOTHING = ("num_threads", "micro_batch_words", "corpus")


def resume_action(
    store: Store, name: str, keep: StoreConfig, checkpoints: Checkpoints, now: dict[str, Any]
) -> tuple[str, str]:
    """Of the run that now describes: "all", "the rest" (from a checkpoint) or "nothing".

    And a note where work is thrown away. InputError where there is an interrupted run but no
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
    known = read_unfinished(checkpoints.folder) if newest else None
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
def resume_advice(store: Store, name: str) -> Iterator[None]:
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
            found.append(f"the {split} split was {_describe_split(one)}, is {_describe_split(two)}")
    if not found and known.get("pieces_sha256", now["pieces_sha256"]) != now["pieces_sha256"]:
        found.append("the encoder's tokenizer cuts the words into other pieces")
    return found


def _describe_split(corpus: dict[str, Any] | None) -> str:
    if corpus is None:
        return "missing"
    return f"{corpus['sentences']} sentences (SHA-256 {corpus['sha256'][:8]})"


def read_unfinished(folder: Path) -> dict[str, Any]:
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
