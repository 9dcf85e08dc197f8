"""Print what was tried to learn more from few expert labels: few_labels.jsonl beside this file.

  python experiments/few_labels.py

Each record is a `train.py --data mixed --expert N --keep last`, or --data llm where N is 0, with
one thing changed, beside the default with the same seed. Validation chose, with seeds that no other
table has. What stayed is in the code; the encoder is adapted by adapt_encoder.py; the rest is gone.
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
ALONE = "one model, as --data llm is"  # the default without experts


def table() -> str:
    """Differences to the default on validation, mean over seeds; those of adapting also on test."""
    records = [record for record in read() if record["expert"]]
    numbers = sorted({record["expert"] for record in records})
    rows = [["changed", *(f"{number:,} expert sentences" for number in numbers)]]
    default = scores(records, DEFAULT, "validation_f1")
    rows.append(["nothing: validation F1", *cells(numbers, {k: [v] for k, v in default.items()})])
    for arm in dict.fromkeys(record["arm"] for record in records):
        found = scores(records, arm, "validation_f1")
        gains = {key: [f1 - default[key]] for key, f1 in found.items()}
        if arm != DEFAULT:
            rows.append([arm, *cells(numbers, gains, gain)])
    on_test = test_scores(DEFAULT)
    found = scores(records, ADAPTED, "test_f1")
    gains = {key: [f1 - on_test[key]] for key, f1 in found.items()}
    rows.append([f"{ADAPTED}: test F1", *cells(numbers, gains, gain)])
    return markdown(rows)


def table_of_weak_labels_alone() -> str:
    """Differences to one model of weak labels alone: on validation, and on test where measured."""
    records = [record for record in read() if not record["expert"]]
    rows = [["weak labels alone", "validation F1", "test F1"]]
    defaults = scores(records, ALONE, "validation_f1"), test_scores("repaired")
    rows.append([ALONE, *(cells([0], {k: [v] for k, v in d.items()})[0] for d in defaults)])
    for arm in dict.fromkeys(record["arm"] for record in records if record["arm"] != ALONE):
        row = [arm]
        for default, score in zip(defaults, ("validation_f1", "test_f1"), strict=True):
            found = scores(records, arm, score)
            row += cells([0], {key: [f1 - default[key]] for key, f1 in found.items()}, gain)
        rows.append(row)
    return markdown(rows)


def read() -> list[dict]:
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]


def test_scores(wanted: str) -> dict[tuple[int, int], float]:
    """Test F1 of the runs of that name in weak_labels.jsonl, by experts and seed."""
    return {
        (int(group), seed): line["test"]["f1"]
        for line in lines(RESULTS)
        for group, name, pool, seed in [line["key"]]
        if (name, pool) == (wanted, "whole")
    }


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
    print(f"{table()}\n\n{table_of_weak_labels_alone()}")
