"""The store of revisions: a folder, in which a revision is a folder with all that belongs to it.

A revision is written to a temporary folder and renamed, so that there is never half of one.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase

from nerc.config import DataConfig, InputError, is_disk_full, parse_amount
from nerc.encoding import load_tokenizer
from nerc.files import make_readable, system_errors, write_json
from nerc.metrics import Report
from nerc.model import NERSmall, load, quiet

_UNFINISHED = ".checkpoints"


def default_name(config: DataConfig) -> str:
    """The revision's name where --revision gives none."""
    base = {"llm": "main", "gold": "model_primary", "mixed": "model_mixed"}[config.data]
    if config.expert_amount is None:
        return base
    amount = config.expert_amount
    is_share = isinstance(parse_amount(amount, flag="expert"), float)
    return f"{base}_{amount[:-1]}" if is_share else f"{base}_{amount}_sentences"


class Store:
    """The revisions in one folder; the folder appears with the first of them."""

    def __init__(self, repo: str) -> None:
        self.folder = Path(repo)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--repo {repo}: is a file, wanted a folder of revisions")

    def names(self) -> list[str]:
        """The revisions there are, in alphabetical order."""
        if not self.folder.exists():
            return []
        return sorted(
            entry.name
            for entry in self.folder.iterdir()
            if not entry.name.startswith(".") and (entry / "config.json").exists()
        )

    def check_free(self, name: str, *, overwrite: bool) -> None:
        """Raise InputError where no revision of this name may be written."""
        _check_name(name)
        place = self.folder / name
        if not os.path.lexists(place):
            return
        if not overwrite:
            raise InputError(
                f"revision {name} is in {self.folder} already; give --overwrite to replace it, or "
                f"another --revision"
            )
        if place.is_symlink() or not (place / "config.json").is_file():
            raise InputError(
                f"{place} is no revision, and --overwrite replaces nothing else; move it away, or "
                f"give another --revision"
            )

    def check_room(self, num_bytes: int) -> None:
        """Raise InputError where the disk has less than num_bytes left."""
        place = self.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < num_bytes:
            raise InputError(
                f"--repo {self.folder}: no room on the disk, {free / 2**20:.0f} MiB are free and "
                f"the run takes {num_bytes / 2**20:.0f} MiB; make room or give another --repo"
            )

    def path(self, name: str) -> Path:
        """The revision's folder; InputError, with those there are, where it is not."""
        _check_name(name)
        folder = self.folder / name
        if not (folder / "config.json").exists():
            there = ", ".join(self.names()) or "none"
            raise InputError(
                f"no revision {name} in {self.folder} (there: {there}); make it with: accelerate "
                f"launch train.py {self._flags_for(name)}"
            )
        return folder

    def _flags_for(self, name: str) -> str:
        mixed = re.fullmatch(r"model_mixed_([0-9.]+)(_sentences)?", name)
        flags = {"main": "--data llm", "model_primary": "--data gold"}.get(name)
        if mixed:
            flags = f"--data mixed --expert {mixed[1]}{'' if mixed[2] else '%'}"
        flags = flags or f"--revision {name}"
        return flags if self.folder == Path("models") else f"{flags} --repo {self.folder}"

    def run_folder(self, name: str) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return self.folder / _UNFINISHED / name

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """The run_folder, locked against other runs; it stays while it holds a checkpoint."""
        folder = self.run_folder(name)
        was_there = self.folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise InputError(
                f"another run is writing revision {name} in {self.folder}; wait for it, or give "
                f"another --revision"
            ) from None
        except OSError as error:
            if is_disk_full(error):
                raise
            raise InputError(f"--repo {self.folder}: cannot be written: {error}") from None
        try:
            _undo(folder / "revision", self.folder / name)
            yield folder
        finally:
            if not any(folder.glob("update_*")):
                shutil.rmtree(folder)
            lock.release()
            places = [folder.parent] if was_there else [folder.parent, self.folder]
            for empty in places if not folder.exists() else []:
                with suppress(OSError):  # another run may be using it
                    empty.rmdir()

    @contextmanager
    def publishing(self, folder: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder in a run_folder, which becomes the revision when all went well.

        Where another run took the name meanwhile, the revision gets another, and InputError says
        which: what hours of training gave is not thrown away.
        """
        new = folder / "revision"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            make_readable(new)
            try:
                self.check_free(name, overwrite=overwrite)
            except InputError as error:
                other = next(
                    n for i in count(2) if not os.path.lexists(n := self.folder / f"{name}_{i}")
                )
                new.rename(other)
                raise InputError(f"{error}; this run's is kept as {other}") from None
            _put_in_place(new, self.folder / name)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @contextmanager
    def writing(self, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder to write a revision in, which becomes the revision when all went well."""
        with (
            self.working(name) as folder,
            self.publishing(folder, name, overwrite=overwrite) as new,
        ):
            yield new


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(
            f"--revision {name!r}: wanted up to 100 letters, digits and _ - . (the last two not "
            f"first)"
        )


def _put_in_place(new: Path, target: Path) -> None:
    old = _old(new)
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    if old.exists():
        shutil.rmtree(old)


def _undo(new: Path, target: Path) -> None:
    """Give the old revision its place back where a kill interrupted _put_in_place."""
    if _old(new).exists():
        if target.exists():
            shutil.rmtree(_old(new))
        else:
            _old(new).rename(target)


def _old(new: Path) -> Path:
    return new.with_name(new.name + ".old")


def num_bytes(model: NERSmall) -> int:
    """About what a revision of this model, and a checkpoint on the way to it, take on disk."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # Of a checkpoint: the weights, two moments of AdamW, the best weights so far.
    return (1 + 4) * weights + 2**22  # tokenizer, records and logs


def save(
    folder: Path,
    name: str,
    model: NERSmall,
    tokenizer: PreTrainedTokenizerBase,
    reports: dict[str, Report],
    run: dict[str, Any],
) -> None:
    """Write what a revision holds, but for its logs, into folder."""
    with quiet():
        with system_errors(folder / "model.safetensors"):
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(folder / "metrics.json", {split: r.to_json() for split, r in reports.items()})
    write_json(folder / "run.json", run)
    (folder / "README.md").write_text(_model_card(name, reports, run), encoding="utf-8")


def _model_card(name: str, reports: dict[str, Report], run: dict[str, Any]) -> str:
    config = run["config"]
    labels = {"gold": "expert labels", "llm": "a language model's labels", "mixed": "both labels"}
    units = config["lstm_hidden_size"]
    facts = {
        "trained on": f"{labels[config['data']]} of {config['corpus']}",
        "expert sentences": config["expert"] or ("none" if config["data"] == "llm" else "all"),
        "started from": config["encoder"] or f"revision {config['start']}",
        "BiLSTM": f"{units} units per direction" if units else "none",
        "recipe": f"{config['recipe']}, seed {config['seed']}",
    }
    lines = [
        "---",
        "library_name: transformers",
        "tags: [named-entity-recognition, nerc]",
        "---",
        "",
        f"# {name}",
        "",
        "A tagger for named entities, trained by nerc; `run.json` says exactly how.",
        "",
        *(f"- {what}: {value}" for what, value in facts.items()),
        "",
        "| split | loss | accuracy | precision | recall | F1 |",
        "|---|---|---|---|---|---|",
    ]
    for split, r in reports.items():
        figures = [r.loss, r.accuracy, r.precision, r.recall, r.f1]
        lines.append(f"| {split} | {' | '.join(f'{figure:.5f}' for figure in figures)} |")
    lines += ["", "Load it with `from nerc import NERSmall; NERSmall.from_pretrained(FOLDER)`."]
    return "\n".join(lines) + "\n"


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a revision; {} where it has none (published checkpoints)."""
    path = folder / "run.json"
    if not path.exists():
        return {}
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run["config"], dict) and isinstance(run["data"], dict):
            return run
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise InputError(f"{path}: is damaged, wanted what train.py writes there")


def load_revision(folder: Path) -> tuple[NERSmall, PreTrainedTokenizerBase]:
    """A revision's model, in float32, and its tokenizer."""
    model = load(str(folder))
    return model, load_tokenizer(str(folder), model.config.vocab_size)
