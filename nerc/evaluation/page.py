"""The page for browsing predictions of revisions: one HTML file that needs no server or network."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from nerc.data.tags import entities
from nerc.evaluation import plots, tables
from nerc.evaluation.bootstrap import ALL
from nerc.evaluation.error_analysis import KINDS
from nerc.evaluation.evaluator import Comparison
from nerc.tables import Rows


def html_page(comparison: Comparison, images: plots.Plots, split: str) -> str:
    """Return the HTML page of a comparison, which opens without a network.

    Scores by type have a table of their own, so the table of figures has the same columns, and room
    for them, however many types there are. Each interval is in one table only.
    """
    first = comparison.first
    shown = {"Figures": tables.figures(comparison, split)}
    if comparison.differences:
        shown[f"Difference in F1 from {first.name}"] = tables.differences(comparison, [ALL])
    shown |= tables.summary_tables(comparison)
    others = tables.error_tables(comparison)
    counts = tables.count_line(first.evaluation.report, split)
    uncalibrated = [r.name for r in comparison.revisions if r.calibration is None]
    state = (
        f"calibrated, except those of {', '.join(uncalibrated)}" if uncalibrated else "calibrated"
    )
    if len(uncalibrated) == len(comparison.revisions):
        state = "not calibrated"
    return render_page(
        {
            "title": f"{', '.join(comparison.reports)} on {split}",
            "note": f"{counts}. Confidences are {state}.",
            "types": comparison.types,
            "revisions": list(comparison.reports),
            "tables": [{"title": title, "rows": rows} for title, rows in shown.items()],
            "others": [{"title": title, "rows": rows} for title, rows in others.items()],
            "plots": [{"title": title, "image": data_uri(png)} for title, png in images.values()],
            "sentences": page_sentences(comparison),
        }
    )


def tables_page(title: str, tables: Mapping[str, Rows], note: str = "") -> str:
    """Return an HTML page of tables, by title, which opens without a network; see render_page()."""
    shown = [{"title": name, "rows": rows} for name, rows in tables.items()]
    empty = {name: [] for name in ("types", "revisions", "others", "plots", "sentences")}
    return render_page(empty | {"title": title, "note": note, "tables": shown})


def data_uri(image: bytes) -> str:
    """Return a PNG as a data: URL."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def comparison_plots(comparison: Comparison) -> plots.Plots:
    """Plot F1 by type, reliability, confusions, and learning curves if the runs have any."""
    revisions = comparison.revisions
    confidences = {r.name: (r.confidences, r.evaluation.right) for r in revisions}
    result = {
        "f1": (tables.F1_BY_TYPE, plots.f1_by_type(comparison.intervals)),
        "reliability": (
            "Confidence and share of correct entities",
            plots.reliability(confidences),
        ),
    }
    epochs = {r.name: r.run["epochs"] for r in revisions if len(r.run.get("epochs", ())) > 1}
    if epochs:
        title = "Learning curves on the validation split"
        result["learning"] = title, plots.learning_curves(epochs)
    for revision in revisions:
        image = plots.confusion_plot(revision.errors.confusion, comparison.types)
        result[f"confusion_{revision.name}"] = tables.CONFUSIONS.format(revision.name), image
    return result


def page_sentences(comparison: Comparison) -> list[dict[str, Any]]:
    """Return all sentences as render_page() takes them: words, gold, predictions, missed entities.

    Documents are numbered from 1; in a corpus without document boundaries they are None.
    """
    corpus = comparison.first.corpus
    documents = {sentence.document for sentence in corpus}
    shift = int(0 in documents)
    sentences = [
        {
            "words": list(sentence.words),
            "document": sentence.document + shift if len(documents) > 1 else None,
            "gold": entities(sentence.tags),
            "predicted": [],
            "missed": [],
        }
        for sentence in corpus
    ]
    for revision in comparison.revisions:
        confidences = iter(revision.confidences.tolist())  # in the order of the predicted entities
        for row, pairs, labels in zip(
            sentences, revision.errors.pairs, revision.evaluation.predicted, strict=True
        ):
            kinds = {pair.predicted: pair.kind for pair in pairs}
            guesses = [(*e, round(next(confidences), 3), kinds[e]) for e in entities(labels)]
            row["predicted"].append(guesses)
            row["missed"].append([pair.gold for pair in pairs if pair.kind == "missed"])
        if next(confidences, None) is not None:
            raise RuntimeError("a confidence belongs to no entity")
    return sentences


def render_page(data: dict[str, Any]) -> str:
    """Return the HTML document that shows data, whose strings need not be trusted.

    data has

    - title, note: texts at the top of the page;
    - types, revisions: lists of names;
    - tables, others: tables with a title and rows, the first row being the header; others are
      hidden until they are opened;
    - plots: plots with a title and an image, a PNG as a data: URL;
    - names (optional): what the page calls the reference and what is judged: gold, predicted;
    - sentences (without any, the page has no browser): each with words, document (its number,
      another text that says where the sentence is, or None in a corpus without documents) and

      - gold: (type, start, end) of each entity, end exclusive;
      - predicted: for each revision, (type, start, end, confidence, kind) of each entity;
        kind is one of KINDS, but never "missed";
      - missed: for each revision, (type, start, end) of each gold entity without a prediction.

    The page inserts texts as text nodes only. Its Content-Security-Policy allows the template's own
    script and style and embedded images, and no address.
    """
    template = files("nerc.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(data["title"]),
        "data": as_script(compact(data)),
        "style": _hash(template, "style"),
        "script": _hash(template, "script"),
    }
    # In a single pass, so that a title such as @@data@@ is not replaced by the data.
    return re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template)


def compact(data: dict[str, Any]) -> dict[str, Any]:
    """Encode types and kinds as numbers, sentences as lists, confidences in thousandths."""
    types = {name: i for i, name in enumerate(data["types"])}

    def encoded(type_: str, start: int, end: int, confidence: float = 0, kind: str = "") -> list:
        span = [types.setdefault(type_, len(types)), start, end]  # types not in data come last
        return [*span, round(1000 * confidence), KINDS.index(kind)] if kind else span

    sentences = []
    for sentence in data["sentences"]:
        lines = (sentence["predicted"], sentence["missed"])
        if any(len(line) != len(data["revisions"]) for line in lines):
            raise ValueError(
                f"{len(data['revisions'])} revisions, but sentence {sentence} has predictions of "
                f"{len(sentence['predicted'])} and missed entities of {len(sentence['missed'])}"
            )
        gold = [encoded(*entity) for entity in sentence["gold"]]
        by_revision = [[[encoded(*e) for e in revision] for revision in line] for line in lines]
        sentences.append([sentence["words"], sentence["document"], gold, *by_revision])
    return data | {"types": list(types), "kinds": KINDS, "sentences": sentences}


def as_script(data: Any) -> str:
    """Return data as JSON that can stand in a <script> element, whatever texts it contains."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # These characters occur only inside JSON strings, where an escape means the same. Lone
    # surrogates are escaped too, because UTF-8 cannot encode them.
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _hash(template: str, tag: str) -> str:
    """Return the Content-Security-Policy hash of the template's only <tag> element."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
