"""Data sets of the library datasets: words with tags, or texts with entities by characters.

They are a parquet or JSON lines file, a folder of them, or on the Hub: USER/NAME, followed by
:SPLIT or :CONFIG:SPLIT where there are several.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

from nerc.annotation.examples import Example, Source, Target, of_sentence
from nerc.data.sources import from_dataset, hub_errors
from nerc.data.spans import Span
from nerc.data.tags import to_scheme
from nerc.errors import InputError

_WORDS = ("tokens", "words")
_SPANS = ("spans", "entities", "ner", "labels")
_IDS = ("id", "sent_id")
_DOCUMENTS = ("document", "document_id", "doc_id")
# Names in an entity.
_STARTS, _ENDS = ("start", "start_offset", "start_char"), ("end", "end_offset", "end_char")
_TYPES = ("label", "type", "entity_group", "entity", "tag")


def read_hub_rows(source: Source) -> Iterator[Example]:
    """The rows of one split: sentences with words and tags, or texts with entities."""
    rows, name = _load(source.path)
    about = [_column(rows, names) for names in (_IDS, _DOCUMENTS)]
    if any(column in rows.column_names for column in _WORDS):
        yield from _tagged(rows, name, about, source)
        return
    column = next((column for column in _SPANS if column in rows.column_names), None)
    if column is None or "text" not in rows.column_names:
        found = ", ".join(rows.column_names)
        raise InputError(
            f"{name}: has the columns {found}; wanted tokens and ner_tags, or text and one of "
            f"{', '.join(_SPANS)}"
        )
    names = _names(rows.features[column])
    for number, row in enumerate(rows, start=1):
        try:
            spans = None if row[column] is None else tuple(_spans(row[column], names))
            if not isinstance(row["text"], str):
                raise InputError("has no text")
        except InputError as error:
            source.faults.add(f"{name}:{number}", str(error))
            continue
        yield Example(
            text=row["text"],
            spans=spans or (),
            location=f"{name}:{number}",
            id=about[0][number - 1],
            document=about[1][number - 1],
            answer=None if spans is None else "accept",
        )


def _load(path: Path) -> tuple[datasets.Dataset, str]:
    """One split, and the name that tells it in messages."""
    name, *choice = str(path).split(":") if not path.exists() else [str(path)]
    advice = "give a folder, or a file .parquet or .jsonl"
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{name}: is empty, wanted rows")  # datasets raises StopIteration
    with hub_errors(name, advice), tempfile.TemporaryDirectory() as cache:
        # What is on this disk is not copied to the cache of the library for good.
        where = {"cache_dir": cache, "keep_in_memory": True} if Path(name).exists() else {}
        if path.is_file() and path.suffix in (".json", ".jsonl"):
            return datasets.load_dataset("json", data_files=name, split="train", **where), name
        if path.is_file():
            return datasets.Dataset(pq.read_table(path)), name
        configs = datasets.get_dataset_config_names(name)
        config = choice[0] if len(choice) > 1 else configs[0] if len(configs) == 1 else None
        if config not in configs:
            raise InputError(f"{name}: has {', '.join(configs)}; give {name}:CONFIG:SPLIT")
        splits = datasets.get_dataset_split_names(name, config)
        split = choice[-1] if choice else splits[0] if len(splits) == 1 else None
        if split not in splits:
            raise InputError(f"{name}: has {', '.join(splits)}; give {name}:SPLIT")
        return datasets.load_dataset(name, config, split=split, **where), f"{name}/{split}"


def _column(rows: datasets.Dataset, names: Sequence[str]) -> Sequence[str | None]:
    """The cells of the first of the columns, as text; None for those of none."""
    for name in names:
        if name in rows.column_names:
            return [None if cell in (None, "") else str(cell) for cell in rows[name]]
    return [None] * len(rows)


def _tagged(
    rows: datasets.Dataset, name: str, about: Sequence[Sequence[str | None]], source: Source
) -> Iterator[Example]:
    corpus = from_dataset(rows, name, first=1)
    source.notes.extend(corpus.notes)
    is_one = len(set(corpus.table["document"].to_pylist())) == 1
    for sentence in corpus:
        row = int(sentence.location.rpartition(":")[2]) - 1
        number = None if is_one else str(sentence.document)
        yield of_sentence(sentence, about[0][row], about[1][row] or number)


def _names(feature: Any) -> Sequence[str] | None:
    """The types that numbers in entities mean, if they do."""
    inner = getattr(feature, "feature", feature)
    for name in _TYPES:
        if isinstance(inner, Mapping) and name in inner:
            label = getattr(inner[name], "feature", inner[name])
            return getattr(label, "names", None)
    return None


def _spans(value: Any, names: Sequence[str] | None) -> Iterator[Span]:
    """The entities of a row: a list of them, or, as older versions had it, a list of each field."""
    if isinstance(value, Mapping):
        columns = list(value.values())
        if not all(isinstance(column, list) for column in columns) or len({*map(len, columns)}) > 1:
            raise InputError(f"has the entities {value!r:.60}, wanted lists of one length")
        value = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise InputError(f"has the entities {value!r:.60}, wanted a list")
    for entity in value:
        if not isinstance(entity, Mapping):
            raise InputError(f"has the entity {entity!r:.60}, wanted start, end and label")
        start, end, type_ = (
            next((entity[key] for key in keys if entity.get(key) is not None), None)
            for keys in (_STARTS, _ENDS, _TYPES)
        )
        if names and isinstance(type_, int) and 0 <= type_ < len(names):
            type_ = names[type_]
        if not (type(start) is type(end) is int and isinstance(type_, str)):  # no bool
            raise InputError(f"has the entity {dict(entity)!r:.90}, wanted start, end and label")
        stated = entity.get("text")
        yield Span(type_, start, end, stated if isinstance(stated, str) else None)


def write_hub_rows(examples: Iterable[Example], target: Target) -> None:
    """A parquet file with the columns id, document, tokens and ner_tags; with ids of the tags."""
    prefixes = {"iob2": "BI", "iob1": "BI", "bioes": "BIES", "bilou": "BILU", "bmes": "BMES"}
    names = ["O", *(f"{p}-{t}" for t in target.inventory for p in prefixes[target.scheme])]
    label = {name: number for number, name in enumerate(names)}
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "document": text,
            "tokens": datasets.List(text),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    columns: dict[str, list] = {name: [] for name in features}
    for example in examples:
        columns["id"].append(example.id)
        columns["document"].append(example.document)
        columns["tokens"].append(example.line_words())
        tags = to_scheme(example.tags, target.scheme)
        columns["ner_tags"].append([label[tag] for tag in tags])
    rows = datasets.Dataset.from_dict(columns, features)
    pq.write_table(rows.data.table, target.path)
