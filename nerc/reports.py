"""Tables for people."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # they take seconds to import
    from nerc.metrics import Report
    from nerc.training import Epoch


def table(reports: Mapping[str, "Report"], split: str) -> str:
    """Reports side by side, a row each, as a Markdown table; F1 per type in the last columns."""
    types = list(dict.fromkeys(name for report in reports.values() for name in report.types))
    header = ["Revision", f"{split.capitalize()} Loss", "Seqeval Accuracy", "Precision", "Recall"]
    header += ["F1-Score", "Strict F1", *(f"{name} F1" for name in types)]
    rows = [
        [
            name,
            f"{r.loss:.5f}",
            *(f"{v:.5f}" for v in (r.accuracy, r.precision, r.recall, r.f1, r.strict_f1)),
            *(f"{r.types[t].f1:.5f}" if t in r.types else "-" for t in types),
        ]
        for name, r in reports.items()
    ]
    return markdown([header, *rows])


def epoch_line(epoch: "Epoch") -> str:
    """One aligned line for the console; F1 and accuracy in percent."""
    line = f"epoch {epoch.number:2d}  loss {epoch.loss:7.4f}"
    if found := epoch.validation:
        line += (
            f"  validation loss {found['loss']:7.4f}  accuracy {100 * found['accuracy']:6.2f}"
            f"  F1 {100 * found['f1']:6.2f}{' *' if epoch.kept else '  '}"
        )
    return line + f"  {epoch.words_per_second:8,.0f} words/s  {epoch.seconds:6.0f} s"


def history(epochs: Sequence["Epoch"]) -> dict[str, Any]:
    """The epochs and the one that was kept, for run.json."""
    rows = [
        {
            "number": epoch.number,
            "loss": epoch.loss,
            "validation_f1": epoch.validation and epoch.validation["f1"],
            "validation_loss": epoch.validation and epoch.validation["loss"],
            "words_per_second": round(epoch.words_per_second),
            "seconds": round(epoch.seconds, 1),
        }
        for epoch in epochs
    ]
    return {"epochs": rows, "kept_epoch": [epoch.number for epoch in epochs if epoch.kept][-1]}


def counted(report: "Report", split: str) -> str:
    """What a report stands on, in one line."""
    return (
        f"{split}: {report.entities:,} entities in {report.sentences:,} sentences, "
        f"{report.words:,} words, every one judged; F1 as conlleval and seqeval's default count"
    )


def markdown(rows: list[list[str]]) -> str:
    """Rows, the first of them the header, as an aligned Markdown table; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: list[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])
