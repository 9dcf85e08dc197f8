"""What is written of a run beside its weights: run.json, and the reports in metrics.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nerc.errors import InputError

Record = tuple[dict[str, Any], dict[str, Any]]  # run.json and metrics.json


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a revision; {} where it has none (published checkpoints)."""

    def is_whole(run: dict[str, Any]) -> bool:
        places = [run["config"].get(key) for key in ("corpus", "encoder", "start")]
        texts = all(place is None or isinstance(place, str) for place in places)
        return texts and isinstance(run["data"], dict)

    return _read(folder / "run.json", is_whole)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a revision, the report of each split; {} where it has none."""

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
    raise InputError(f"{path}: is damaged, wanted what train.py writes there")


def read(folder: Path) -> Record:
    """run.json and metrics.json of a revision."""
    return read_run(folder), read_metrics(folder)


def by_configuration(runs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Names of revisions, those together whose run.json differs in the seed alone.

    What the machine chose does not count; a revision without run.json stands alone.
    """
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        key = json.dumps([settings(run), _read_by(run)]) if run else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _read_by(run: Mapping[str, Any]) -> dict[str, str | None]:
    """Which sentences a run read, by their SHA-256, but for those that its seed drew."""
    config, about = run["config"], run.get("active")
    is_drawn = about or config.get("data") == "mixed" or config.get("expert") is not None
    splits = ("validation", "test") if is_drawn else ("train", "validation", "test")
    data = run.get("data", {})
    found = {split: data.get(split, {}).get("sha256") for split in splits}
    return found | {"pool": about["plan"].get("pool")} if about else found


def settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that results depend on, but for the seed, and the precision that was used."""
    left_out = ("seed", "num_threads", "micro_batch_words", "precision", "cuda_graphs", "tokenizer")
    config = {k: v for k, v in sorted(run["config"].items()) if k not in left_out}
    for key in ("corpus", "encoder"):  # machines keep them in different places
        config[key] = config[key] and Path(config[key]).name
    if about := run.get("active"):  # what was bought by then
        config |= {"strategy": about["strategy"], "round": about["round"]}
        config |= {"add": about["plan"]["add"]}
    return config | {"precision": run.get("precision")}
