"""Reads the records in a revision's folder: run.json, and the reports in metrics.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nerc.errors import InputError

Record = tuple[dict[str, Any], dict[str, Any]]  # run.json and metrics.json


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a revision; {} where it has none (published checkpoints)."""

    def is_whole(run: dict[str, Any]) -> bool:
        sources = [run["config"].get(key) for key in ("corpus", "encoder", "start")]
        are_texts = all(source is None or isinstance(source, str) for source in sources)
        return are_texts and isinstance(run["data"], dict)

    return _read(folder / "run.json", is_whole)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a revision: the report of each split; {} where it has none."""

    def is_whole(metrics: dict[str, Any]) -> bool:
        return all(isinstance(r[key], float) for r in metrics.values() for key in ("f1", "loss"))

    return _read(folder / "metrics.json", is_whole)


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
    left_out = ("seed", "num_threads", "micro_batch_words", "precision", "cuda_graphs", "tokenizer")
    config = {k: v for k, v in sorted(run["config"].items()) if k not in left_out}
    for key in ("corpus", "encoder"):  # machines keep them in different folders
        config[key] = config[key] and Path(config[key]).name
    if active := run.get("active"):
        config |= {"strategy": active["strategy"], "round": active["round"]}
        config |= {"add": active["plan"]["add"]}
    return config | {"precision": run.get("precision")}
