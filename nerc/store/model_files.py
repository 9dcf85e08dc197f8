"""Writes a trained model into a revision's folder and loads it back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from nerc.files import read_unreplaced, system_errors, write_json
from nerc.model.loading import load, quiet
from nerc.model.modeling import NERSmall
from nerc.model.tokenizer import tokenizer_beside
from nerc.store import records
from nerc.store.card import model_card


def num_bytes(model: NERSmall) -> int:
    """About how much disk space a revision of this model and a checkpoint of its run take."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # The revision's weights; in the checkpoint, weights, two moments of AdamW and the best weights.
    return (1 + 4) * weights + 2**22  # tokenizer, records and logs


def save(
    folder: Path,
    name: str,
    model: NERSmall,
    tokenizer: PreTrainedTokenizerBase,
    metrics: Mapping[str, Any],
    run: dict[str, Any],
) -> None:
    """Write a revision's files, except its logs, to folder; metrics: the report of each split."""
    with quiet():
        with system_errors(folder / "model.safetensors"):
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "run.json", run | {"files": records.hashes(folder)})
    calibrated = model.config.calibration is not None
    card = model_card(name, metrics, run, calibrated=calibrated)
    (folder / "README.md").write_text(card, encoding="utf-8")


def load_revision(
    folder: Path, *, tokenizer: str | None = None
) -> tuple[NERSmall, PreTrainedTokenizerBase]:
    """A revision's model, in float32, and its tokenizer, or the tokenizer that is named here.

    InputError where a file is damaged, or is not what the revision's run wrote.
    """

    def read() -> tuple[NERSmall, PreTrainedTokenizerBase]:
        model = load(str(folder))
        records.check_unchanged(folder)
        return model, tokenizer_beside(folder, model.config.vocab_size, instead=tokenizer)

    return read_unreplaced(folder, read)
