"""The store of revisions: a folder, in which a revision is a folder with all that belongs to it.

A revision is written to a temporary folder and renamed, so that there is never half of one.
"""

import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
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
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise InputError(
                f"--revision {name!r}: wanted letters, digits and _ - . (the last two not first)"
            )
        if (self.folder / name).exists() and not overwrite:
            raise InputError(
                f"revision {name} is in {self.folder} already; give --overwrite to replace it, or "
                f"another --revision"
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
        folder = self.folder / name
        if not (folder / "config.json").exists():
            there = ", ".join(self.names()) or "none"
            raise InputError(
                f"no revision {name} in {self.folder} (there: {there}); {_command_for(name)}"
            )
        return folder

    @contextmanager
    def writing(self, name: str, *, overwrite: bool):
        """A new folder to write a revision in, which becomes the revision when all went well."""
        staging = self.folder / _STAGING
        try:
            staging.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=staging))
        except OSError as error:
            if is_disk_full(error):
                raise
            raise InputError(f"--repo {self.folder}: cannot be written: {error}") from None
        try:
            yield folder
            self.check_free(name, overwrite=overwrite)
            _put_in_place(folder, self.folder / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_if_empty(staging)
            _remove_if_empty(self.folder)


def _put_in_place(new: Path, target: Path) -> None:
    new.chmod(0o777 & ~_umask())  # mkdtemp's folders are for the owner alone
    old = new.with_name(new.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove_if_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _command_for(name: str) -> str:
    data = {"main": "--data llm", "model_primary": "--data gold"}.get(name)
    if data is None and name.startswith("model_mixed"):
        data = "--data mixed"
    return f"make it with: accelerate launch train.py {data or f'--data gold --revision {name}'}"


def write_json(path: Path, values: Any) -> None:
    """Write values readably, whole or not at all."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
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
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: token-classification",
        "tags: [named-entity-recognition, nerc]",
        "---",
        "",
        f"# {name}",
        "",
        f"A BERT-BiLSTM tagger for named entities, trained by nerc on the {config['data']} labels "
        f"of {config['corpus']} with the recipe {config['recipe']}, seed {config['seed']}.",
        "",
        "| split | loss | accuracy | precision | recall | F1 |",
        "|---|---|---|---|---|---|",
    ]
    for split, r in reports.items():
        figures = [r.accuracy, r.precision, r.recall, r.f1]
        cells = [f"{r.loss:.5f}", *(f"{figure:.5f}" for figure in figures)]
        lines.append(f"| {split} | {' | '.join(cells)} |")
    lines += [
        "",
        "Load it with `NERSmall.from_pretrained(FOLDER)` after `from nerc import NERSmall`.",
    ]
    return "\n".join(lines) + "\n"


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a revision; {} where it has none (published checkpoints)."""
    path = folder / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def load_revision(folder: Path) -> tuple[NERSmall, PreTrainedTokenizerBase]:
    """A revision's model, in float32, and its tokenizer."""
    model = load(str(folder))
    return model, load_tokenizer(str(folder), model.config.vocab_size)
