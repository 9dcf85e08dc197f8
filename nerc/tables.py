"""Markdown tables and the figures in them: means over seeds, mean differences."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and, where there are several values, the standard deviation of the sample."""
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def gain(differences: Sequence[float]) -> str:
    """Mean difference and its standard error, of values in percent."""
    error = ""
    if len(differences) > 1:
        error = f" ± {statistics.stdev(differences) / len(differences) ** 0.5:.2f}"
    return f"{statistics.mean(differences):+.2f}{error}"


def counted(number: int, noun: str) -> str:
    """1 process, 2 processes."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


Rows = list[list[str]]  # of a table, the first of them its header


def markdown(rows: Rows) -> str:
    """Rows, the first of them the header, as an aligned Markdown table; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: list[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])
