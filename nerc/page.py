"""The page on which people browse what revisions found: one HTML file, no server, no network."""

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

from nerc.analysis import KINDS


def page(data: dict[str, Any]) -> str:
    """Return the HTML document that shows data, of which every text may be anything.

    data has title and note; types and revisions, names; tables, of title and rows, of which the
    first is the header, and others, which are folded away; plots, of title and the PNG images light
    and dark as data: URLs; and sentences. A sentence has words, document, its number, and

    - gold: (type, start, end) of each entity, end exclusive;
    - found, for each revision: (type, start, end, confidence, kind), where the kind is one of KINDS
      but the last;
    - missed, for each revision: the gold entities for which nothing was found.

    The browser shows texts as texts; its rules allow no script but the template's own, no image but
    the plots, and no address at all.
    """
    template = files("nerc").joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(data["title"]),
        "data": as_script(compact(data)),
        "style": _hash(template, "style"),
        "script": _hash(template, "script"),
    }
    # All at once: a title that reads @@data@@ is no place for the data.
    return re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template)


def compact(data: dict[str, Any]) -> dict[str, Any]:
    """Data with numbers for types and kinds, lists for sentences, confidences in thousandths."""
    types: dict[str, int] = {}

    def number(type_: str) -> int:  # types that nobody announced come last
        return types.setdefault(type_, len(types))

    for name in data["types"]:
        number(name)

    def spans(entities: list) -> list:
        return [[number(type_), start, end] for type_, start, end in entities]

    def found(entities: list) -> list:
        return [
            [number(type_), start, end, round(1000 * confidence), KINDS.index(kind)]
            for type_, start, end, confidence, kind in entities
        ]

    sentences = []
    for sentence in data["sentences"]:
        lines = (sentence["found"], sentence["missed"])
        if any(len(line) != len(data["revisions"]) for line in lines):
            raise ValueError(f"{len(data['revisions'])} revisions, but sentence {sentence}")
        sentences.append(
            [
                sentence["words"],
                sentence["document"],
                spans(sentence["gold"]),
                [found(entities) for entities in sentence["found"]],
                [spans(entities) for entities in sentence["missed"]],
            ]
        )
    return data | {"types": list(types), "kinds": KINDS, "sentences": sentences}


def as_script(data: Any) -> str:
    """JSON that ends no element and begins none, whatever its texts are."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # The five occur in JSON's strings only, where an escape stands for the character itself. A
    # lone surrogate, which JSON knows and UTF-8 does not, is escaped too.
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _hash(template: str, tag: str) -> str:
    """What a Content-Security-Policy calls the text of the template's one element <tag>."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
