"""Reads the records in a revision's folder: run.json, and the reports in metrics.json."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nerc.cli import Effect, flags_with
from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.errors import InputError

Record = tuple[dict[str, Any], dict[str, Any]]  # run.json and metrics.json


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a revision; {} where it has none (published checkpoints)."""
    return _read(folder / "run.json", _is_run)


def _is_run(values: dict[str, Any]) -> bool:
    sources = [values["config"].get(key) for key in ("corpus", "encoder", "start")]
    return isinstance(values["data"], dict) and all(isinstance(s, str | None) for s in sources)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a revision: the report of each split; {} where it has none."""
    check_unchanged(folder, "metrics.json")
    return _read(folder / "metrics.json", _is_metrics)


def _is_metrics(values: dict[str, Any]) -> bool:
    return all(isinstance(r[key], float) for r in values.values() for key in ("f1", "loss"))


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
        if name in written and (not path.is_file() or _sha256(path) != written[name]):
            raise InputError(
                f"{path}: is not as its run wrote it (another SHA-256 than in run.json); fetch or "
                f'train it again or, if the change is yours, take {name} out of "files" in '
                f"{folder / 'run.json'}"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, is_whole: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if is_whole(values):
            return values
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path}: is damaged; wanted the JSON that train.py writes")


def read(folder: Path) -> Record:
    """run.json and metrics.json of a revision."""
    return read_run(folder), read_metrics(folder)


def by_configuration(runs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Groups of revisions whose runs differ in the seed, or in what the machine decided, alone.

    A revision without run.json forms its own group.
    """
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        key = json.dumps([settings(run), _fingerprints(run)]) if run else name
        groups.setdefault(key, []).append(name)
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
    configs = DataConfig, ModelConfig, TrainConfig
    places = flags_with({Effect.PLACE}, *configs)  # in other folders on other machines
    names = sorted(places | flags_with({Effect.RESULT}, *configs))
    config = {name: run["config"].get(name) for name in names}
    config |= {name: Path(config[name]).name for name in places if config[name]}
    if active := run.get("active"):
        config |= {"strategy": active["strategy"], "round": active["round"]}
        config |= {"add": active["plan"]["add"]}
    return config | {"precision": run.get("precision")}
