"""Reads the records in a revision's folder: run.json, and the reports in metrics.json."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from nerc.cli import Effect, flags_with
from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.errors import InputError
from nerc.files import MOST_BYTES, Wanted, check_input, read_json, read_unreplaced
from nerc.hub import content_hash

Record = tuple[dict[str, Any], dict[str, Any]]  # run.json and metrics.json

# What both files hold of that which nerc reads. Earlier versions wrote fewer flags and figures.
_CONFIGS = DataConfig, ModelConfig, TrainConfig
_FLAGS = {f"{f.name}?": f.type for config in _CONFIGS for f in fields(config)}
_FLAGS = {name: [str] if kind == tuple[str, ...] else kind for name, kind in _FLAGS.items()}
_DATA = DataConfig.__dataclass_fields__["data"].metadata["choices"]
_FLAGS["data?"] = Wanted(f"one of {', '.join(_DATA)}", lambda value: value in _DATA, str)
_PLAN = {"add": str, "pool?": str, "oracle?": str, "types?": [str], "start?": str}
_PLAN |= {"model?": str}
_ACTIVE = {"plan": _PLAN, "round": int, "strategy": str | None, "seed": int, "start": str | None}
_ACTIVE |= {"sentences": int, "words": int, "entities": int, "words_of?": str}
_ACTIVE |= {"words_read?": int}
_EPOCH = {"number": int, "validation_f1": float | None, "validation_loss": float | None}
_RUN = {"config": _FLAGS, "data": {str: {"sentences": int, "sha256": str}}, "id?": str}
_RUN |= {"precision?": str, "pieces_sha256?": str, "epochs?": [_EPOCH], "active?": _ACTIVE}
_RUN |= {"files?": {str: str}, "pass_milliseconds?": {str: float}}
_REPORT = {"f1": float, "loss": float, "accuracy?": float, "precision?": float, "recall?": float}
_METRICS = {str: _REPORT}


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a revision; {} where it has none (published checkpoints)."""
    return read_unreplaced(folder, lambda: _read(folder / "run.json", _RUN))


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a revision: the report of each split; {} where it has none."""
    return read_unreplaced(folder, lambda: _read_metrics(folder))


def _read_metrics(folder: Path) -> dict[str, Any]:
    check_unchanged(folder, "metrics.json")
    return _read(folder / "metrics.json", _METRICS)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of the files in a revision's folder that nothing rewrites when it moves."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name not in _UNHASHED)
    return {name: _sha256(folder / name) for name in names}


_UNHASHED = ("run.json", "README.md", "log.txt")


def check_unchanged(folder: Path, *names: str) -> None:
    """Raise InputError where a file of a revision is not what its run wrote.

    names: the files, all of them if none is named. A revision of earlier versions has no hashes.
    """
    written = read_run(folder).get("files", {})
    for name in names or written:
        path = folder / name
        if name in written and _sha256(path) != written[name]:
            raise InputError(
                f"{path}: is not as its run wrote it (another SHA-256 than in run.json); fetch or "
                f'train it again or, if the change is yours, take {name} out of "files" in '
                f"{folder / 'run.json'}"
            )


def _sha256(path: Path) -> str:
    check_input(path, most_bytes=None if path.suffix == ".safetensors" else MOST_BYTES)
    return content_hash(path)


def read(folder: Path) -> Record:
    """run.json and metrics.json of a revision, which belong together."""
    return read_unreplaced(folder, lambda: (read_run(folder), read_metrics(folder)))


def read_all(folders: Mapping[str, Path]) -> tuple[dict[str, Record], list[str]]:
    """The records of revisions by name, and what is wrong with those that are left out."""
    found, faults = {}, []
    for name, folder in folders.items():
        try:
            found[name] = read(folder)
        except InputError as error:
            faults.append(f"{name}: {error}")
    return found, faults


def _read(path: Path, shape: dict[str, Any]) -> dict[str, Any]:
    if not os.access(path.parent, os.R_OK | os.X_OK):
        raise InputError(f"{path.parent}: no such folder, or no permission to read it")
    if not os.path.lexists(path):
        return {}
    try:
        return read_json(path, shape)
    except InputError as error:
        fault = str(error).removeprefix(f"{path}: ")
        wanted = "wanted the JSON that train.py writes"
        raise InputError(f"{path}: is damaged: {fault}; {wanted}") from None


def by_configuration(runs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Groups of revisions whose runs differ in the seed, or in what the machine decided, alone.

    A revision without run.json forms its own group, and so does a copy of another one: it is no
    further run.
    """
    groups: dict[str, list[str]] = {}
    ids: set[str] = set()
    for name, run in runs.items():
        is_copy = run.get("id") in ids
        key = json.dumps([settings(run), _fingerprints(run)]) if run and not is_copy else name
        groups.setdefault(key, []).append(name)
        ids |= {run["id"]} if run.get("id") else set()
    return list(groups.values())


def _fingerprints(run: Mapping[str, Any]) -> dict[str, str | None]:
    """The SHA-256 of the sentences that a run used, except those that its seed drew."""
    config, active = run["config"], run.get("active")
    is_drawn = active or config.get("data") == "mixed" or config.get("expert") is not None
    splits = ("validation", "test") if is_drawn else ("train", "validation", "test")
    data = run.get("data", {})
    by_split = {split: data.get(split, {}).get("sha256") for split in splits}
    return by_split | {"pool": active["plan"].get("pool")} if active else by_split


def settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that results depend on, without the seed, and the precision that was used."""
    places = flags_with({Effect.PLACE}, *_CONFIGS)  # in other folders on other machines
    names = sorted(places | flags_with({Effect.RESULT}, *_CONFIGS))
    config = {name: run["config"].get(name) for name in names}
    config |= {name: Path(config[name]).name for name in places if config[name]}
    if active := run.get("active"):
        config |= {"strategy": active["strategy"], "round": active["round"]}
        config |= {"add": active["plan"]["add"], "ask": active["plan"].get("ask", "sentences")}
        config |= {"model": active["plan"].get("model")}
    return config | {"precision": run.get("precision")}
