"""The files of weak labels that a model writes: labels, record, and what could not be labelled."""

import csv
import io
import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import files
from nerc.data.corpus import Sentence
from nerc.data.words import DOCSTART
from nerc.errors import InputError

_SHARE_DIGITS = 6
Shares = Sequence[Mapping[str, float]]  # for each word, its tags with probabilities


@dataclass(frozen=True)
class WeakFiles:
    """The files of one source of weak labels in the folder of a corpus."""

    folder: Path
    name: str | None  # of llm.NAME.txt; None: llm.txt

    @property
    def stem(self) -> str:
        return f"llm.{self.name}" if self.name else "llm"

    @property
    def labels(self) -> Path:
        return self.folder / f"{self.stem}.txt"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.stem}.run.json"

    @property
    def replies(self) -> Path:
        return self.folder / f"{self.stem}.replies.jsonl"

    @property
    def faults(self) -> Path:
        return self.folder / f"{self.stem}.faults.csv"

    def check_free(self, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        """Raise InputError where other labels would be replaced without --overwrite.

        The labels that the same settings gave are written again.
        """
        if overwrite or not self.labels.exists():
            return
        if not self.record.exists():
            raise InputError(
                f"{self.labels}: is there already, and annotate did not write it; give --name, or "
                f"--overwrite to replace it"
            )
        earlier = files.read_json(self.record, {"settings": dict})["settings"]
        now = json.loads(json.dumps(settings))
        for field in earlier.keys() | now.keys():
            if earlier.get(field) != now.get(field):
                raise InputError(
                    f"{self.labels}: was written with {field} {earlier.get(field)!r}, and not "
                    f"{now.get(field)!r}; give --name, or --overwrite to replace it"
                )

    def write_labels(self, labelled: Iterable[tuple[Sentence, Shares]]) -> None:
        """Write words and tags, with probabilities where a word has several tags."""
        lines, document = [], None
        for sentence, shares in labelled:
            if sentence.document != document:
                if document is not None or sentence.document:
                    lines.append(f"{DOCSTART} O\n\n")
                document = sentence.document
            separator = "\t" if any(re.search(r"\s", word) for word in sentence.words) else " "
            for word, of_word in zip(sentence.words, shares, strict=True):
                lines.append(f"{word}{separator}{cell(of_word)}\n")
            lines.append("\n")
        files.write_text(self.labels, "".join(lines))

    def write_record(self, values: Mapping[str, Any]) -> None:
        about = {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        files.write_json(self.record, dict(values) | about)

    def write_faults(self, rows: Sequence[Sequence[str]]) -> None:
        """Write the sentences that stay unlabelled, or remove the file where there are none."""
        if not rows:
            self.faults.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("location", "fault", "problem", "sentence", "reply"))
        writer.writerows(rows)
        files.write_text(self.faults, text.getvalue())


def cell(shares: Mapping[str, float]) -> str:
    """A word's tag or, of several, each with its probability; the sum is 1 at most."""
    shares = {tag: share for tag, share in shares.items() if share}
    if len(shares) == 1:
        return next(iter(shares))
    # Cut rather than rounded, so that the sum is never above 1; 0.001 is for numbers like 0.29999.
    unit = 10**_SHARE_DIGITS
    cut = {tag: math.floor(share * unit + 0.001) / unit for tag, share in shares.items()}
    return "|".join(f"{tag}:{share:.{_SHARE_DIGITS}g}" for tag, share in cut.items())
