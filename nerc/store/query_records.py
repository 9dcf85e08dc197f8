"""Writes and reads what experts were asked for, a file of a revision of active learning."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nerc.data.pool import Query
from nerc.data.tags import NOT_ASKED, is_tag, to_iob2
from nerc.errors import InputError
from nerc.files import Wanted, parse_json, read_text
from nerc.store import records

FILE = "queries.jsonl"  # in a revision: every query up to its round


def to_text(queries: Iterable[Query]) -> str:
    """JSON lines, one for each query."""
    rows = [query._asdict() for query in queries]
    for row in rows:
        if row["asked"] is None:  # as in earlier versions
            del row["asked"]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def from_text(text: str, path: Path) -> list[Query]:
    """The queries of to_text(); path: the file that an InputError names."""
    queries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line:
            try:
                queries.append(_to_query(parse_json(line, _QUERY)))
            except InputError as error:
                raise InputError(
                    f"{path}:{number}: {error}; wanted what active_learn.py writes there"
                ) from None
    return queries


def _is_label(tag: str) -> bool:
    return tag == NOT_ASKED or is_tag(tag)


_WORDS = Wanted("a list of words, at least one", bool, [str])
_TAGS = Wanted(
    f"a list of IOB2 tags, {NOT_ASKED} for words that were not asked",
    lambda t: {*t} != {NOT_ASKED} and all(_is_label(tag) for tag in t) and to_iob2(t) == t,
    [str],
)
_ASKED = Wanted(
    "numbers of words, rising", lambda n: n == sorted({*n}) and min(n, default=0) >= 0, [int]
)
_QUERY = {
    "round": Wanted("0 or more", lambda number: number >= 0, int),
    **{"strategy": str, "score": float | None, "origin": str, "words": _WORDS},
    **{"tags?": _TAGS, "proposed?": _TAGS, "cheap?": bool},
    "confidence?": Wanted("0 to 1", lambda p: 0 <= p <= 1, float),
    "asked?": _ASKED,
}


def _to_query(row: dict[str, Any]) -> Query:
    """The query of a line, whose fields have the right shape; InputError for other faults."""
    if unknown := row.keys() - set(Query._fields):
        raise InputError(f"has an unknown field, {min(unknown)}")
    if "tags" not in row:
        raise InputError("has no tags")
    query = Query(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
    for name in ("tags", "proposed"):
        labels = getattr(query, name)
        if labels is not None and len(labels) != len(query.words):
            raise InputError(f"has {len(query.words)} words but {len(labels)} {name}")
    for number in query.asked or ():
        if number >= len(query.words):
            raise InputError(
                f"has {len(query.words)} words, and asks for that with number {number}"
            )
        if query.tags is not None and query.tags[number] == NOT_ASKED:
            raise InputError(f"asks for {query.words[number]!r}, which has no tag")
    return query


def read(folder: Path) -> list[Query]:
    """The queries in the folder of a revision."""
    path = folder / FILE
    if not path.exists():
        raise InputError(f"{path}: is missing; it holds what experts answered")
    records.check_unchanged(folder, FILE)
    return from_text(read_text(path), path)
