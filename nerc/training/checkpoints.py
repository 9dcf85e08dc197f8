"""Checkpoints: what --resume needs, in a folder for each unfinished run.

A checkpoint is one safetensors file, update_0000120.safetensors, written completely or not at all.
The newest two are kept, in case the disk damages one.
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
from nerc.files import check_input, system_errors, unfinished
from nerc.store.revisions import CHECKPOINT_NAME

KEPT = 2


class Checkpoints:
    """The checkpoints in a folder, and TensorBoard's event files, which must agree with them.

    A context: it closes the event files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.logs = folder, folder / "logs"
        self._writer = None

    def __enter__(self) -> "Checkpoints":
        for partial in self.folder.glob(".update_*.safetensors-*"):  # a kill came meanwhile
            partial.unlink()
        return self

    def __exit__(self, *_) -> None:
        if self._writer:
            self._writer.close()

    @property
    def writer(self) -> SummaryWriter:
        """TensorBoard's writer; the first access begins a file of events."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.logs))
        return self._writer

    def log(self, name: str, value: float, update: int) -> None:
        """Add a point to a curve."""
        self.writer.add_scalar(name, value, update)

    def log_settings(self, settings: dict[str, Any], scores: dict[str, float], update: int) -> None:
        """Add a run's settings and final scores, which TensorBoard's tab HPARAMS compares."""
        shown = (bool, int, float, str)
        settings = {k: v if isinstance(v, shown) else str(v) for k, v in settings.items()}
        # The group is the last in the alphabet, so that TensorBoard opens on curves, not on points.
        scores = {f"with_kept_weights/{name}": value for name, value in scores.items()}
        for summary in hparams(settings, scores):
            self.writer.file_writer.add_summary(summary)
        for name, value in scores.items():
            self.log(name, value, update)

    def flush(self) -> None:
        """Write every point of the curves to the event files."""
        if self._writer:
            self._writer.flush()

    def paths(self) -> list[Path]:
        """The checkpoints, newest first."""
        paths = [p for p in self.folder.glob("update_*") if CHECKPOINT_NAME.fullmatch(p.name)]
        return sorted(paths, key=_update, reverse=True)

    def newest(self) -> int | None:
        """The update of the newest checkpoint; None if there is none."""
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
        path = self.folder / f"update_{progress['update']:07d}.safetensors"
        with unfinished(path) as temporary, system_errors(path):
            save_file(tensors, temporary, metadata)
        for old in self.paths()[KEPT:]:
            _remove(old)

    def read(self) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]] | None:
        """Tensors and progress of the newest undamaged checkpoint; None if there is none.

        A damaged one is skipped, with a note; InputError if all are damaged. The event files are
        cut back to their contents at the time of the checkpoint.
        """
        notes = []
        for path in self.paths():
            try:
                tensors, progress = _read(path)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                notes.append(f"{path}: is damaged and skipped: {error}")
                continue
            for newer in self.paths():
                if _update(newer) > _update(path):
                    _remove(newer)
            notes += self._cut_logs(progress.pop("logs"))
            return tensors, progress, notes
        if notes:
            raise InputError(
                f"none of the checkpoints can be read ({'; '.join(notes)}); repair the disk, or "
                f"give --overwrite without --resume to start again"
            )
        return None

    def _cut_logs(self, sizes: dict[str, int]) -> list[str]:
        for path in self.logs.glob("*"):
            if path.name not in sizes or path.is_symlink() or not path.is_file():
                _remove(path)
        damaged = []
        for path, size in ((self.logs / name, size) for name, size in sizes.items()):
            if not path.exists() or path.stat().st_size < size:
                damaged.append(f"{path}: is incomplete, so the curves will have a gap")
            else:
                os.truncate(path, size)
        return damaged

    def clear(self) -> None:
        """Remove what an earlier run left; no event file may be open."""
        for path in self.paths():
            _remove(path)
        shutil.rmtree(self.logs, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a file, or what stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _update(path: Path) -> int:
    return int(path.stem.removeprefix("update_"))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    check_input(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["sha256"] != _digest(tensors, metadata["progress"]):
        raise ValueError("its contents have changed since it was written")
    return tensors, json.loads(metadata["progress"])


def _digest(tensors: dict[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
