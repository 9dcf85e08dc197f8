"""Checkpoints: what --resume needs, in a folder for each unfinished run.

A checkpoint is one safetensors file, update_0000120.safetensors, that is whole or not there. The
newest two are kept, so that there is one to go back to where a disk damages the other.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from nerc.errors import InputError
from nerc.files import system_errors, unfinished

KEPT = 2


class Checkpoints:
    """The checkpoints in a folder, and TensorBoard's event files, which must agree with them.

    A context, which closes the event files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.logs = folder, folder / "logs"
        self._writer = None

    def __enter__(self) -> "Checkpoints":
        for half in self.folder.glob(".update_*"):  # what a killed run was writing
            half.unlink()
        return self

    def __exit__(self, *_) -> None:
        if self._writer:
            self._writer.close()

    @property
    def writer(self) -> SummaryWriter:
        """TensorBoard's, which begins a file of events when it is first asked for."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.logs))
        return self._writer

    def log(self, name: str, value: float, update: int) -> None:
        """Add a point to a curve."""
        self.writer.add_scalar(name, value, update)

    def log_text(self, name: str, text: str, update: int) -> None:
        """Add a text, in Markdown."""
        self.writer.add_text(name, text, update)

    def log_settings(self, settings: dict[str, Any], scores: dict[str, float]) -> None:
        """Add a run's settings and final scores, which TensorBoard's tab HPARAMS compares."""
        shown = (bool, int, float, str)
        settings = {k: v if isinstance(v, shown) else str(v) for k, v in settings.items()}
        for summary in hparams(settings, scores):
            self.writer.file_writer.add_summary(summary)
        for name, value in scores.items():
            self.log(name, value, 0)

    def flush(self) -> None:
        """See every point of the curves in the event files."""
        if self._writer:
            self._writer.flush()

    def paths(self) -> list[Path]:
        """Those there are, the newest first."""
        return sorted(self.folder.glob("update_*.safetensors"), key=_update, reverse=True)

    def newest(self) -> int | None:
        """The update of the newest; None where there is none."""
        return max(map(_update, self.paths()), default=None)

    def write(self, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
        """Keep tensors and progress (JSON, with its "update") as the newest checkpoint."""
        self.flush()
        sizes = {}
        for path in sorted(self.logs.glob("*")):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                sizes[path.name] = path.stat().st_size
        tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        text = json.dumps(progress | {"logs": sizes})
        metadata = {"progress": text, "sha256": _digest(tensors, text)}
        name = f"update_{progress['update']:07d}.safetensors"
        path = self.folder / name
        with unfinished(path) as temporary, system_errors(path):
            save_file(tensors, temporary, metadata)
        for old in self.paths()[KEPT:]:
            old.unlink()

    def read(self) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]] | None:
        """Tensors and progress of the newest checkpoint that is whole; None where there is none.

        Damaged ones are passed over, with a note for each; InputError where all are damaged.
        The event files are cut back to what they held when the checkpoint was written.
        """
        notes = []
        for path in self.paths():
            try:
                tensors, progress = _read(path)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                notes.append(f"{path}: is damaged and passed over: {error}")
                continue
            for newer in self.paths():
                if _update(newer) > _update(path):
                    newer.unlink()
            notes += self._cut_logs(progress.pop("logs"))
            return tensors, progress, notes
        if notes:
            raise InputError(
                f"none of the checkpoints can be read ({'; '.join(notes)}); mend the disk, or "
                f"give --overwrite without --resume to start anew"
            )
        return None

    def _cut_logs(self, sizes: dict[str, int]) -> list[str]:
        for path in self.logs.glob("*"):
            if path.name not in sizes:
                path.unlink()
        damaged = []
        for path, size in ((self.logs / name, size) for name, size in sizes.items()):
            if not path.exists() or path.stat().st_size < size:
                damaged.append(f"{path}: is not what it was, the curves will have a gap")
            else:
                os.truncate(path, size)
        return damaged

    def clear(self) -> None:
        """Remove what an earlier run left; the event files must not have been opened."""
        for path in self.paths():
            path.unlink()
        shutil.rmtree(self.logs, ignore_errors=True)


def _update(path: Path) -> int:
    return int(path.stem.removeprefix("update_"))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["sha256"] != _digest(tensors, metadata["progress"]):
        raise ValueError("its contents are not those that were written")
    return tensors, json.loads(metadata["progress"])


def _digest(tensors: dict[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
