"""Writes suspects for people: a table, a page, and questions."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerc import files
from nerc.annotation.people import Folder, write_questions
from nerc.annotation.suspects import Suspect
from nerc.data import tags
from nerc.data.corpus import Corpus, Sentence
from nerc.data.pool import Query
from nerc.data.tags import Entity
from nerc.evaluation.error_analysis import KINDS, entity_text, pairs
from nerc.evaluation.page import render_page
from nerc.model import calibration
from nerc.tables import Rows

_COLUMNS = ("rank", "kind", "score", "location", "given", "given_words", "suggested")
_COLUMNS += ("suggested_words", "words", "sentence")


def write(
    folder: Path,
    corpus: Corpus,
    suspects: Sequence[Suspect],
    rows: Sequence[np.ndarray],
    word_tags: Sequence[str],
    top: int,
    formats: Sequence[str],
) -> None:
    """Write suspects.csv with all suspects; suspects.html and questions with the first top.

    The questions have the labels as they are given now, in each of the formats (of exchange).
    rows: log-probabilities (words, tags) of each sentence, by which the suspects were found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "suspects.csv", _csv(corpus, suspects))
    by_sentence: dict[int, list[Suspect]] = {}
    for suspect in suspects[:top]:
        by_sentence.setdefault(suspect.sentence, []).append(suspect)
    sentences = dict(zip(by_sentence, corpus.select(list(by_sentence)), strict=True))
    shown = []
    for i, sentence in sentences.items():
        given = tags.entities(sentence.tags)
        certainty = calibration.confidences(given, rows[i], word_tags)
        shown.append(_on_page(sentence, by_sentence[i], given, certainty))
    title = "Labels that are probably wrong"
    page = {
        "title": title,
        "note": f"The first {sum(map(len, by_sentence.values())):,} of {len(suspects):,} suspects, "
        f"the most suspicious sentences first. Models that did not learn from a sentence suggest "
        f"its entities; the confidence is their probability of a given entity.",
        "types": tags.ordered(corpus.entity_types()),
        "revisions": ["given labels"],
        "names": ("suggested", "given"),
        "tables": [{"title": "Suspects", "rows": count_table(suspects, top)}],
        "others": [],
        "plots": [],
        "sentences": shown,
    }
    files.write_text(folder / "suspects.html", render_page(page))
    queries: dict[tuple[str, ...], Query] = {}  # by words: copies are asked once
    for i, (words, given, location, _) in sentences.items():
        query = Query(0, "suspects", by_sentence[i][0].score, location, words, None, given)
        queries.setdefault(words, query)
    asked = Folder(folder, formats, corpus.entity_types())
    write_questions(asked, "questions", list(queries.values()))


def _csv(corpus: Corpus, suspects: Sequence[Suspect]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    sentences = corpus.select([suspect.sentence for suspect in suspects])
    for rank, (suspect, sentence) in enumerate(zip(suspects, sentences, strict=True), start=1):
        first = [rank, suspect.place.kind, f"{suspect.score:.3f}", sentence.location]
        place = " ".join(sentence.words[suspect.place.start : suspect.place.end])
        given, suggested = map(_types_and_spans, suspect.place[2:])
        writer.writerow([*first, *given, *suggested, place, " ".join(sentence.words)])
    return text.getvalue()


def _types_and_spans(entities: Sequence[Entity]) -> tuple[str, str]:
    """Types and words (from 0, end exclusive) of entities, as text."""
    spans = "; ".join(f"{entity.start}-{entity.end}" for entity in entities)
    return "; ".join(entity.type for entity in entities), spans


def _on_page(
    sentence: Sentence, suspects: Sequence[Suspect], given: list[Entity], certainty: np.ndarray
) -> dict[str, Any]:
    """A sentence as the page takes it: what the suspects suggest, and the given labels beside."""
    doubtful = {entity for suspect in suspects for entity in suspect.place.given}
    suggested = [entity for entity in given if entity not in doubtful]
    suggested += [entity for suspect in suspects for entity in suspect.place.suggested]
    compared = pairs(suggested, given)
    kinds = {pair.predicted: pair.kind for pair in compared}
    labels = [(*e, float(c), kinds[e]) for e, c in zip(given, certainty, strict=True)]
    return {
        "words": list(sentence.words),
        "document": sentence.location,
        "gold": sorted(suggested, key=lambda entity: entity.start),
        "predicted": [labels],
        "missed": [[pair.gold for pair in compared if pair.kind == "missed"]],
    }


def count_table(suspects: Sequence[Suspect], top: int) -> Rows:
    """How many suspects there are of each kind, among all and among the first top."""
    every, first = (Counter(s.place.kind for s in part) for part in (suspects, suspects[:top]))
    rows = [["kind", "suspects", f"of the first {top:,}"]]
    return rows + [[kind, f"{every[kind]:,}", f"{first[kind]:,}"] for kind in KINDS[1:]]


def top_table(corpus: Corpus, suspects: Sequence[Suspect]) -> Rows:
    """The suspects as a table for people."""
    rows = [["place", "kind", "score", "given", "suggested"]]
    sentences = corpus.select([suspect.sentence for suspect in suspects])
    for suspect, sentence in zip(suspects, sentences, strict=True):
        texts = (
            ", ".join(entity_text(sentence.words, entity) for entity in part) or "-"
            for part in suspect.place[2:]
        )
        rows.append([sentence.location, suspect.place.kind, f"{suspect.score:.1f}", *texts])
    return rows
