"""Prints the tables of benchmarks/performance.jsonl and writes them into docs/performance.md.

python benchmarks/train_speed.py --corpus DIR --encoder DIR --record benchmarks/performance.jsonl
python benchmarks/tables.py

Every processor has its tables, and in them the medians of a row's runs. A row that was measured
once more, with the same settings and on the same processor, replaces the older one.
"""

import argparse
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import records  # first: it finds nerc, which need not be installed
from records import KINDS, OUTCOMES

from nerc.errors import InputError, one_line_errors
from nerc.files import read_text, write_text
from nerc.tables import Rows, counted, markdown

PAGE = records.ROOT / "docs" / "performance.md"
# What makes another table, from the outside in: the heading, and the line below it.
MACHINE = ("benchmark", "device", "processor", "cores", "threads")
MEASUREMENT = ("encoder", "corpus", "settings")
Medians = dict[str, dict]  # row -> the median of each value, and num_runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    with one_line_errors(parser.prog):
        known = records.read(records.FILE)
        write_text(PAGE, filled(read_text(PAGE), known))
        print("\n\n".join(sections(known, name) for name in TABLES if of(known, name)))


def report(measured: list[dict], file: Path | None) -> None:
    """Print the tables of rows that were measured, and append the rows to a file of records."""
    with one_line_errors(Path(sys.argv[0]).name):
        for benchmark in dict.fromkeys(record["benchmark"] for record in measured):
            print(sections(measured, benchmark), end="\n\n", flush=True)
        if file:
            records.append(file, measured)


def filled(page: str, known: list[dict]) -> str:
    """The page with the tables of the records between its marks; InputError for a missing mark."""

    def between(mark: re.Match) -> str:
        return f"{mark[1]}\n\n{sections(known, mark[2])}\n\n{mark[3]}"

    marks = r"(<!-- tables of (\w+) -->).*?(<!-- end of tables -->)"
    places = Counter(mark[2] for mark in re.finditer(marks, page, re.DOTALL))
    if places != Counter([*TABLES]):
        wrong = ", ".join(sorted(n for n in {*places, *TABLES} if places[n] != (n in TABLES)))
        raise InputError(
            f"docs/performance.md: {wrong}: wanted one place for each of {', '.join(TABLES)}: the "
            f"lines <!-- tables of NAME --> and <!-- end of tables -->"
        )
    return re.sub(marks, between, page, flags=re.DOTALL)


def sections(known: list[dict], benchmark: str) -> str:
    """The tables of a benchmark: a heading for each machine, a line about each measurement."""
    machines = grouped(of(known, benchmark), MACHINE)
    text = [] if machines else ["Not measured yet."]
    for on_machine in machines:
        text.append(heading(on_machine[0]))
        for measurement in grouped(on_machine, MEASUREMENT):
            rows = list({record["row"]: record for record in measurement}.values())
            medians = {record["row"]: medians_of(record) for record in rows}
            text += [caption(rows), markdown(TABLES[benchmark](medians))]
    return "\n\n".join(text)


def of(known: list[dict], benchmark: str) -> list[dict]:
    return [record for record in known if record["benchmark"] == benchmark]


def grouped(known: list[dict], fields: tuple[str, ...]) -> list[list[dict]]:
    """The records by their values of fields, in the order of the first of each."""
    groups: dict[str, list[dict]] = {}
    for record in known:
        key = json.dumps([record[field] for field in fields], sort_keys=True)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def medians_of(record: dict) -> dict:
    """The median of each value; of text, and of what some run lacks, the first run's."""
    runs = record["runs"]
    medians = {"num_runs": record.get("median_of") or len(runs)}
    for key, value in runs[0].items():
        values = [run[key] for run in runs]
        is_number = all(isinstance(value, int | float) for value in values)
        medians[key] = statistics.median(values) if is_number else value
    return medians


def heading(record: dict) -> str:
    cpu = record["processor"]
    known = [cpu["family"] is not None and f"family {cpu['family']}, model {cpu['model']}"]
    facts = ", ".join(filter(None, [*(known if cpu["name"] else []), *cpu["features"]]))
    text = cpu["name"] or "A processor that was not noted"
    text += f" ({facts})" if facts else ""
    for noun in ("core", "thread"):
        if record[f"{noun}s"] is not None:
            text += f", {counted(record[f'{noun}s'], noun)}"
    return f"### {text}" if record["device"] == "cpu" else f"### {record['device']} beside {text}"


def caption(rows: list[dict]) -> str:
    """What was measured, how often, and of which commits."""
    first = rows[0]
    about = {key: first[key] for key in ("encoder", "corpus")} | first["settings"]
    parts = [
        ", ".join(f"{k.replace('_', ' ')} {_text(v)}" for k, v in about.items() if v is not None)
    ]
    numbers = sorted({record.get("median_of") or len(record["runs"]) for record in rows})
    parts.append(f"medians of {' or '.join(map(str, numbers))} runs" if max(numbers) > 1 else "")
    seeds = sorted({seed for record in rows for seed in record["seeds"]})
    parts.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "")
    peaks = {
        "bf16" if "bf16" in record["row"] else "float32": record["runs"][0].get("peak")
        for record in rows
    }
    rates = [f"{rate:,.0f} GFLOP/s in {precision}" for precision, rate in peaks.items() if rate]
    parts.append(f"peak {', '.join(rates)}" if rates else "")
    commits = dict.fromkeys(short(record["commit"]) for record in rows)
    parts.append(f"commit{'s' * (len(commits) > 1)} {', '.join(commits)}")
    text = "; ".join(filter(None, parts))
    return f"{text[0].upper()}{text[1:]}."


def short(commit: str) -> str:
    """The first characters of a commit, and the + of one from which the code differed."""
    return commit[:7] + ("+" if commit.endswith("+") else "")


def _text(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"


# ------------------------------------------------------------ a table for each benchmark


def _training(rows: Medians) -> Rows:
    first = next(iter(rows.values()))["words_per_second"]
    head = ["", "words/s", "times", "of peak", "F1", "training", "process", "GiB"]
    return [head] + [
        [name, *_speed(row, first), f"{100 * row['f1']:.1f}", f"{row['training']:.0f} s"]
        + [f"{row['process']:.0f} s", f"{row['gib']:.1f}"]
        for name, row in rows.items()
    ]


def _speed(row: dict, base: float) -> list[str]:
    speed = row["words_per_second"]
    return [f"{speed:,.0f}", f"{speed / base:.2f}", f"{row['of_peak']:.0%}"]


def _updates(rows: Medians) -> Rows:
    shares = [[name, *(f"{row[kind]:.0%}" for kind in KINDS)] for name, row in rows.items()]
    return [["", *KINDS], *shares]


def _families(rows: Medians) -> Rows:
    table = [["encoder", "Trainer, words/s", "nerc, words/s", "times"]]
    for name, row in rows.items():
        ratio = f"{row['nerc'] / row['trainer']:.2f}"
        table.append([name, f"{row['trainer']:,.0f}", f"{row['nerc']:,.0f}", ratio])
    return table


def _prediction(rows: Medians) -> Rows:
    speeds = [row["words_per_second"] for name, row in rows.items() if name.startswith("pipeline")]
    head = ["", "words/s", "times the best pipeline", "of peak"]
    return [head, *([name, *_speed(row, max(speeds))] for name, row in rows.items())]


def _onnx(rows: Medians) -> Rows:
    base = rows["pipeline float32"]["words_per_second"]
    table = [["", "words/s", "times the pipeline", "F1"]]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["words_per_second"]):
        speed, f1 = row["words_per_second"], row["f1"]
        shown = "" if f1 is None else f"{100 * f1:.2f}"
        table.append([name, f"{speed:,.0f}", f"{speed / base:.2f}", shown])
    return table


def _scale(rows: Medians) -> Rows:
    measures, first = ("loading", "training", "prediction"), next(iter(rows.values()))
    table = [["sentences", *measures, "GiB, training", "GiB, prediction"]]
    for size, row in rows.items():
        cells = [f"{row[key]:.2f} ({row[key] / first[key]:.2f})" for key in measures]
        table.append([size, *cells, f"{row['gib_training']:.2f}", f"{row['gib_prediction']:.2f}"])
    return table


def _reading(rows: Medians) -> Rows:
    """The ratio is to the other version of nerc, for the rows that read what it read."""
    base = next((row for name, row in rows.items() if name.startswith("the other")), None)
    table = [["", "runs", "sentences", "CPU seconds", "ratio", "GiB"]]
    for name, row in rows.items():
        seconds, ratio = row["processor_seconds"], ""
        if base and row["sentences"] == base["sentences"]:
            # A row that is older than the records has its ratio, since its seconds are rounded.
            ratio = f"{row.get('ratio', seconds / base['processor_seconds']):.2f}"
        cells = [f"{row['num_runs']}", f"{row['sentences']:,.0f}", f"{seconds:.2f}", ratio]
        table.append([name, *cells, f"{row['gib']:.2f}"])
    return table


def _damage(rows: Medians) -> Rows:
    counts = ("damaged", *OUTCOMES)
    table = [["command", "damaged files", "runs", *OUTCOMES]]
    for name, row in rows.items():
        table.append([name, row["files"], *(f"{row[key]:,}" for key in counts)])
    total = [f"{sum(row[key] for row in rows.values()):,}" for key in counts]
    return [*table, ["all", "", *total]]


TABLES: dict[str, Callable[[Medians], Rows]] = {
    "train_speed": _training,
    "updates": _updates,
    "families": _families,
    "predict_speed": _prediction,
    "onnx_speed": _onnx,
    "scale": _scale,
    "reading": _reading,
    "damage": _damage,
}

if __name__ == "__main__":
    main()
