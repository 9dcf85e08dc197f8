"""Tables as Markdown or LaTeX; means over seeds and mean differences as text."""

import re
import statistics
from collections.abc import Sequence

from nerc.errors import visible

Rows = list[list[str]]  # the rows of a table, the first being its header
Table = list[list[str | int | float | None]]  # such rows before they are text

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"±": r"$\pm$", "--": "-{}-"} | {c: f"\\{c}" for c in "%&_#${}"}


class Share(float):
    """A part of a whole, 0 to 1, which tables show in percent."""


def share(part: int, whole: int) -> Share | None:
    return Share(part / whole) if whole else None


def shown(table: Table) -> Rows:
    """The cells as text: 1,234, a Share as 12.3 %, another float as 0.123, and None as a dash."""
    return [[_shown(cell) for cell in row] for row in table]


def _shown(cell: str | int | float | None) -> str:
    if isinstance(cell, Share):
        return f"{100 * cell:.1f} %"
    if isinstance(cell, float):
        return f"{cell:.3f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return "-" if cell is None else cell


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and, of several values, the standard deviation of the sample."""
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def gain(differences: Sequence[float]) -> str:
    """Mean difference and its standard error, of values in percent."""
    error = ""
    if len(differences) > 1:
        error = f" ± {statistics.stdev(differences) / len(differences) ** 0.5:.2f}"
    return f"{statistics.mean(differences):+.2f}{error}"


def counted(number: int, noun: str) -> str:
    """1 process, 2 processes, 2 replies."""
    if number != 1:
        is_y = noun.endswith("y") and noun[-2] not in "aeiou"
        noun = f"{noun[:-1]}ies" if is_y else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun}"


def markdown(rows: Rows) -> str:
    """An aligned Markdown table; all columns but the first are aligned to the right."""
    rows = [[visible(cell).replace("|", r"\|") for cell in row] for row in rows]
    # A rule is at least -: long.
    widths = [max(2, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: list[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])


def latex(rows: Rows) -> str:
    """A tabular with the rules of the package booktabs; the text is escaped."""
    special = "|".join(map(re.escape, _LATEX))
    shown = [[visible(cell) for cell in row] for row in rows]
    escaped = [[re.sub(special, lambda match: _LATEX[match[0]], c) for c in row] for row in shown]
    header, *body = [" & ".join(row) + r" \\" for row in escaped]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}"
    lines = [begin, r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines)
