"""Measure how reliable the confidences of predicted entities are, and compare two pipelines.

  python experiments/raw_text.py --repo DIR --revision NAME [NAME ...] --corpus DIR

For each revision: how far the confidences of its entities in the test split are from the share that
is right, before and after the calibration on validation (expected calibration error, 15 bins of
equal size); and how well transformers' own pipeline agrees with nerc's on 200 sentences of the test
split as raw text. Writes raw_text.jsonl and raw_text.png beside this file and prints the table;
without flags, it only prints the table.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # run from anywhere

from nerc.tables import spread  # noqa: E402

RESULTS, PLOT = HERE / "raw_text.jsonl", HERE / "raw_text.png"
NUM_RAW = 200  # sentences of raw text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", default="models", help="folder of the revisions")
    parser.add_argument("--revision", nargs="+", default=[], help="that differ only in the seed")
    parser.add_argument("--corpus", help="folder with valid.txt and test.txt")
    given = parser.parse_args()
    if given.revision:
        lines = [measure(Path(given.repo) / name, given.corpus) for name in given.revision]
        RESULTS.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        plot(lines)
    sys.stdout.write(table() + "\n")


def measure(folder: Path, corpus: str) -> dict:
    """The figures of one revision."""
    from nerc.data import sources
    from nerc.evaluation import evaluator
    from nerc.model import calibration, encoding
    from nerc.store import model_files, records

    model, tokenizer = model_files.load_revision(folder)
    judged = {}
    for split in ("validation", "test"):
        sentences = sources.load(corpus, split)
        encoded = encoding.encode_for(model, tokenizer, sentences)
        judged[split] = evaluator.evaluate(model, sentences, encoded)
    learnt = judged["validation"].fit()
    raw, right = judged["test"].raw, judged["test"].right
    calibrated = calibration.calibrated(raw, learnt)
    line = {"seed": records.read_run(folder)["config"]["seed"], "calibration": learnt}
    line |= {"entities": len(raw), "right": float(right.mean()), "f1": judged["test"].report.f1}
    for name, confidence in (("raw", raw), ("calibrated", calibrated)):
        bins = calibration.reliability(confidence, right)
        line[name] = {
            "error": calibration.calibration_error(confidence, right),
            "mean": float(confidence.mean()),
            "bins": [[float(c.mean()), float(r.mean())] for c, r in bins],
        }
    chosen = [" ".join(sentence.words) for sentence in sources.load(corpus, "test")][:NUM_RAW]
    return line | {"stock_agreement": agreement(folder, chosen)}


def agreement(folder: Path, texts: list[str]) -> float:
    """F1 of the entities of transformers' pipeline, with nerc's entities as the reference."""
    import transformers

    from nerc.model.pipeline import NERPipeline

    task = "token-classification"
    ours = transformers.pipeline(task, str(folder), pipeline_class=NERPipeline)
    stock = transformers.pipeline(task, str(folder), aggregation_strategy="first")
    keys = ("entity_group", "start", "end")
    a, b = (
        {(i, *(entity[key] for key in keys)) for i, found in enumerate(output) for entity in found}
        for output in (ours(texts), stock(texts))
    )
    return 2 * len(a & b) / (len(a) + len(b))


def plot(lines: list[dict]) -> None:
    """Draw the reliability diagram before and after calibration, a line for each revision."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfectly calibrated")
    for name, colour in (("raw", "#d55e00"), ("calibrated", "#0072b2")):
        error = np.mean([line[name]["error"] for line in lines])
        for line in lines:
            label = f"{name}, error {error:.3f}" if line is lines[0] else None
            x, y = zip(*line[name]["bins"], strict=True)
            axes.plot(x, y, color=colour, marker="o", markersize=3, linewidth=1, label=label)
    axes.set(xlabel="confidence", ylabel="share of entities that are right")
    axes.set(xlim=(0.2, 1.01), ylim=(0.2, 1.01))
    axes.legend(frameon=False)
    figure.savefig(PLOT, dpi=120)


def table() -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    seeds = ", ".join(str(line["seed"]) for line in lines)
    rows = ["| confidences | seeds | calibration error | mean confidence | entities right |"]
    rows += ["|---|---|---:|---:|---:|"]
    for name in ("raw", "calibrated"):
        figures = ([line[name][key] for line in lines] for key in ("error", "mean"))
        cells = [spread(values, 4) for values in figures]
        cells.append(spread([line["right"] for line in lines], 4))
        rows.append(f"| {name} | {seeds} | {' | '.join(cells)} |")
    agree = spread([line["stock_agreement"] for line in lines], 4)
    return "\n".join(rows) + f"\n\nF1 of transformers' pipeline beside nerc's: {agree}"


if __name__ == "__main__":
    main()
