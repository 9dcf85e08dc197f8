"""The page for browsing predictions of revisions: one HTML file that needs no server or network."""

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

from nerc.evaluation.error_analysis import KINDS


def render_page(data: dict[str, Any]) -> str:
    """Return the HTML document that shows data, whose strings need not be trusted.

    data has

    - title, note: texts at the top of the page;
    - types, revisions: lists of names;
    - tables, others: tables with a title and rows, the first row being the header; others are
      hidden until they are opened;
    - plots: plots with a title and an image, a PNG as a data: URL;
    - sentences: each with words, document (its number, or None in a corpus without documents) and

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
    types: dict[str, int] = {}

    def number(type_: str) -> int:  # types that data["types"] lacks come last
        return types.setdefault(type_, len(types))

    for name in data["types"]:
        number(name)

    def spans(entities: list) -> list:
        return [[number(type_), start, end] for type_, start, end in entities]

    def predictions(entities: list) -> list:
        return [
            [number(type_), start, end, round(1000 * confidence), KINDS.index(kind)]
            for type_, start, end, confidence, kind in entities
        ]

    sentences = []
    for sentence in data["sentences"]:
        lines = (sentence["predicted"], sentence["missed"])
        if any(len(line) != len(data["revisions"]) for line in lines):
            raise ValueError(
                f"{len(data['revisions'])} revisions, but sentence {sentence} has predictions of "
                f"{len(sentence['predicted'])} and missed entities of {len(sentence['missed'])}"
            )
        sentences.append(
            [
                sentence["words"],
                sentence["document"],
                spans(sentence["gold"]),
                [predictions(entities) for entities in sentence["predicted"]],
                [spans(entities) for entities in sentence["missed"]],
            ]
        )
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
