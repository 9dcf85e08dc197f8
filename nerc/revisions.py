"""The store of revisions: a folder, in which a revision is a folder with all that belongs to it.

A revision is written to a temporary folder and renamed, so that there is never half of one.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from nerc.config import DataConfig, InputError, is_disk_full, parse_amount
from nerc.encoding import load_tokenizer
from nerc.metrics import Report
from nerc.model import NERSmall, load, quiet

_STAGING = ".checkpoints"


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
                f"the revision takes {num_bytes / 2**20:.0f} MiB; make room or give another --repo"
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

    @contextmanager
    def writing(self, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder to write a revision in, which becomes the revision when all went well.

        Where another run took the name meanwhile, the revision gets another, and InputError says
        which: what hours of training gave is not thrown away.
        """
        staging = self.folder / _STAGING
        was_there = self.folder.exists()
        try:
            staging.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=staging))
        except OSError as error:
            if is_disk_full(error):
                raise
            raise InputError(f"--repo {self.folder}: cannot be written: {error}") from None
        try:
            yield folder
            _make_readable(folder)
            try:
                self.check_free(name, overwrite=overwrite)
            except InputError as error:
                other = next(
                    n for i in count(2) if not os.path.lexists(n := self.folder / f"{name}_{i}")
                )
                folder.rename(other)
                raise InputError(f"{error}; this run's is kept as {other}") from None
            _put_in_place(folder, self.folder / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for empty in (staging,) if was_there else (staging, self.folder):
                with suppress(OSError):  # another run may be using it
                    empty.rmdir()


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(
            f"--revision {name!r}: wanted up to 100 letters, digits and _ - . (the last two not "
            f"first)"
        )


def _put_in_place(new: Path, target: Path) -> None:
    old = new.with_name(new.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    if old.exists():
        shutil.rmtree(old)


def _make_readable(folder: Path) -> None:
    """Give folder and files the rights of this user's new files; some libraries give fewer."""
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_file(path: Path, flag: str) -> None:
    """Raise InputError unless a file may be written at path."""
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: is no file, wanted the name of one")
    if not path.resolve().parent.is_dir() or len(path.name) > 200:
        raise InputError(
            f"{flag} {path}: no such folder, or too long a name; make the folder first"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"{flag} {path}: its folder may not be written")


def write_json(path: Path, values: Any) -> None:
    """Write values readably, whole or not at all; a link stays one."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path = path.resolve()
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def num_bytes(model: NERSmall) -> int:
    """About what a revision of this model takes on disk."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return weights + 2**22  # tokenizer, records and logs


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
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:
            # safetensors hides the system's error, a full disk above all, in its text.
            code = re.search(r"\(os error (\d+)\)", str(error))
            if code is None:
                raise
            number = int(code[1])
            raise OSError(number, os.strerror(number), str(folder / "model.safetensors")) from None
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
