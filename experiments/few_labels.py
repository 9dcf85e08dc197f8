"""Print what was tried to learn more from few expert labels: few_labels.jsonl beside this file.

  python experiments/few_labels.py

Each record is a `train.py --data mixed --expert N --keep last` with one thing changed, beside the
default with the same seed. Validation chose, with seeds that no other table has. What stayed is in
the code; the encoder is adapted by adapt_encoder.py; the rest is gone.
"""

import json
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # run from anywhere

from weak_labels import RESULTS, lines  # noqa: E402

from nerc.tables import gain, markdown  # noqa: E402

RECORDS = HERE / "few_labels.jsonl"
DEFAULT, ADAPTED = "selftrain", "encoder adapted to the text first"


def table() -> str:
    """Differences to the default on validation, mean over seeds; those of adapting also on test."""
    records = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    numbers = sorted({record["expert"] for record in records})
    rows = [["changed", *(f"{number:,} expert sentences" for number in numbers)]]
    default = scores(records, DEFAULT, "validation_f1")
    rows.append(["nothing: validation F1", *cells(numbers, {k: [v] for k, v in default.items()})])
    for arm in dict.fromkeys(record["arm"] for record in records):
        found = scores(records, arm, "validation_f1")
        gains = {key: [f1 - default[key]] for key, f1 in found.items()}
        if arm != DEFAULT:
            rows.append([arm, *cells(numbers, gains, gain)])
    on_test = {
        (int(group), seed): line["test"]["f1"]
        for line in lines(RESULTS)
        for group, name, pool, seed in [line["key"]]
        if (name, pool) == (DEFAULT, "whole")
    }
    found = scores(records, ADAPTED, "test_f1")
    gains = {key: [f1 - on_test[key]] for key, f1 in found.items()}
    rows.append([f"{ADAPTED}: test F1", *cells(numbers, gains, gain)])
    return markdown(rows)


def scores(records: list[dict], arm: str, score: str) -> dict[tuple[int, int], float]:
    """The scores of an arm, by the number of expert sentences and the seed."""
    return {
        (record["expert"], record["seed"]): record[score]
        for record in records
        if record["arm"] == arm and score in record
    }


def cells(numbers: list[int], values: dict, write=lambda f1: f"{statistics.mean(f1):.2f}") -> list:
    """A cell for each number of expert sentences: the mean over seeds, and how many there are."""
    result = []
    for number in numbers:
        of_number = [100 * v for key, (v,) in values.items() if key[0] == number]
        result.append(f"{write(of_number)} ({len(of_number)})" if of_number else "")
    return result


if __name__ == "__main__":
    print(table())
