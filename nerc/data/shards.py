"""Cuts files into stretches of whole texts, which several runs share, and joins what they write.

One run computes by stretches, too, so that the answers are the same.
"""

import codecs
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nerc import files
from nerc.data.columns import begins_document, split_columns
from nerc.errors import InputError

STRETCH = 2**20  # bytes of one, which then goes on to a line with which the next may begin
_SIZES = files.Wanted("numbers of 0 or more", lambda sizes: min(sizes, default=0) >= 0, [int])


class Stretch(NamedTuple):
    """Lines of a file that hold whole texts; or all of a pipe."""

    start: int = 0  # bytes before it
    characters: int = 0  # before it
    line: int = 1  # the number of its first one
    num_lines: int | None = None  # None: of a pipe, until it ends

    def lines(self, file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
        """The number and the bytes of each line."""
        if self.num_lines is not None:
            file.seek(self.start)
        return islice(files.bounded_lines(file, name, self.line), self.num_lines)


def stretches(file: BinaryIO, name: str, unit: str) -> Iterator[Stretch]:
    """The stretches of a file, whose position may be changed meanwhile.

    unit: what none of them cuts; a line, a text that an empty line ends, or a document.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        yield Stretch()
        return
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    end, characters, line = file.tell(), 0, 1
    while block := file.read(STRETCH):
        start, before, first = end, characters, line
        last = cut = block[block.rfind(b"\n") + 1 :]  # what it has of a line that goes on
        line, end = line + block.count(b"\n"), file.tell()
        characters += len(decoder.decode(block))
        for number, rest in files.bounded_lines(file, name, line):
            if last.endswith(b"\n") and _begins(unit, last, rest):
                break
            last = rest if last.endswith(b"\n") else last + rest
            line, end = number + 1, file.tell()
            characters += len(decoder.decode(rest))
        line += last is cut and bool(cut)  # the file's last line has no end
        yield Stretch(start, before, first, line - first)
        file.seek(end)


def _begins(unit: str, last: bytes, line: bytes) -> bool:
    """Whether a line certainly begins a unit; last: the line before it."""
    if unit != "document":
        return unit == "line" or not last.strip()
    cells = split_columns(line.decode()) if line.isascii() else []
    return bool(cells) and begins_document(cells, in_sentence=bool(last.strip()))


# ------------------------------------------------------------ parts


def parse(shard: str) -> tuple[int, int] | None:
    """The number of a shard, from 1, and how many there are; None if the text does not say so."""
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", shard)
    number, count = map(int, match.groups()) if match else (0, 0)
    return (number, count) if 1 <= number <= count else None


@dataclass
class Part:
    """The answers to every count-th stretch, in a file, and a record beside it.

    The record appears when the answers are whole. It tells what they were made from.
    """

    output: str  # the file that the parts will make
    number: int  # from 1
    count: int
    sizes: list[int] = field(default_factory=list)  # bytes of the answers to each stretch

    @property
    def path(self) -> Path:
        return Path(f"{self.output}.{self.number}-of-{self.count}")

    @property
    def record(self) -> Path:
        return Path(f"{self.path}.json")

    def holds(self, stretch: int) -> bool:
        """Whether the part answers a stretch; they count from 1."""
        return stretch % self.count == self.number % self.count

    def add(self, stretch: int, end: int) -> None:
        """Count answers to a stretch; end: where they end in the file, in bytes."""
        nth = (stretch - self.number) // self.count
        self.sizes += [0] * (nth + 1 - len(self.sizes))
        self.sizes[nth] += end - sum(self.sizes)

    def write_record(self, source: dict[str, Any], num_bad: int) -> None:
        """Tell that the answers are whole; source: what they were made from."""
        values = {"source": source, "sizes": self.sizes, "num_bad": num_bad}
        files.write_json(self.record, values)

    def read_record(self) -> dict[str, Any] | None:
        """What the record tells; None where there is none."""
        if not self.record.exists():
            return None
        record = files.read_json(self.record, {"source": dict, "sizes": _SIZES, "num_bad": int})
        files.check_input(self.path)
        if (size := self.path.stat().st_size) != (wanted := sum(record["sizes"])):
            advice = f"wanted {wanted:,}; delete it and {self.record}, and run its shard again"
            raise InputError(f"{self.path}: has {size:,} bytes, {advice}")
        return record


def join(output: str, count: int) -> int:
    """Write the answers of all parts, in the order of the input; how many of them are errors.

    InputError where a part is missing, or was made from something else than the first one.
    """
    parts = [Part(output, number, count) for number in range(1, count + 1)]
    records = [part.read_record() for part in parts]
    missing = [
        f"{p.number}/{count}" for p, record in zip(parts, records, strict=True) if not record
    ]
    if missing:
        shown = " ".join(missing[:10]) + (" ..." if missing[10:] else "")
        raise InputError(
            f"{output}: lacks the parts {shown}; run each with --shard and this output"
        )
    source = records[0]["source"]
    for part, record in zip(parts, records, strict=True):
        if differing := [k for k, v in record["source"].items() if source.get(k) != v]:
            raise InputError(
                f"{part.path}: differs from {parts[0].path} in what it was made from "
                f"({', '.join(differing)}); delete the wrong parts, and run their shards again"
            )
    starts = [0] * count
    with files.unfinished(Path(output)) as new, new.open("wb") as file:
        for sizes in zip_longest(*(record["sizes"] for record in records), fillvalue=0):
            for i, size in enumerate(sizes):
                with parts[i].path.open("rb") as answers:
                    answers.seek(starts[i])
                    for left in range(size, 0, -STRETCH):
                        file.write(answers.read(min(left, STRETCH)))
                starts[i] += size
    return sum(record["num_bad"] for record in records)
