"""Reads and writes the files of other tools and formats; FORMATS names them."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from nerc import files
from nerc.annotation import brat, csv_rows, docbin, hub_rows, tools, treebanks
from nerc.annotation.examples import Example, Source, Target, of_sentence
from nerc.data import texts
from nerc.data.columns import split_columns
from nerc.data.conll import read_conll
from nerc.data.corpus import Sentence
from nerc.data.tags import NOT_ASKED, SPECIAL_TAGS, to_iob2, to_scheme
from nerc.data.words import DOCSTART
from nerc.errors import InputError

SKIPPED = NOT_ASKED  # the tag of every word of a skipped sentence
# Comments of Universal Dependencies that name a sentence and a document.
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(\S.*)")
_DOCUMENT_ID = re.compile(r"#\s*newdoc\s+id\s*=\s*(\S.*)")


class Format(NamedTuple):
    """How examples are read and written; a sentence that is written has words."""

    suffix: str  # of its files; "" where it is a folder
    read: Callable[[Source], Iterator[Example]]
    write: Callable[[Iterable[Example], Target], None]


# ------------------------------------------------------------ CoNLL


def read_columns(source: Source) -> Iterator[Example]:
    """The sentences of a CoNLL file, whose comments may name them; one that is all X is skipped.

    Where the source may have labels for some words alone, the others are X.
    """
    corpus = read_conll(source.path, weak=True, columns=source.columns, faults=source.faults)
    source.notes.extend(corpus.notes)
    ids, documents = _names(source)
    is_one = len(set(corpus.table["document"].to_pylist())) == 1
    before = 0  # the line where the last sentence begins
    for sentence in corpus:
        line = int(sentence.location.rpartition(":")[2])
        location = f"{source.path}:{line}"
        number = None if is_one else str(sentence.document)
        name = documents.get(sentence.document, number)
        named = [ids[above] for above in range(line - 1, before, -1) if above in ids]
        before = line
        special = [tag for tag in sentence.tags if tag in SPECIAL_TAGS]
        labelled = tuple(i for i, tag in enumerate(sentence.tags) if tag not in SPECIAL_TAGS)
        if sentence.location in corpus.soft:
            source.faults.add(location, "has probabilities, wanted one tag for each word")
        elif {*special} - {SKIPPED} or (special and labelled and not source.partly):
            fault = f"has {special[0]} at some words, wanted {SKIPPED} at all (skipped) or none"
            source.faults.add(location, fault)
        else:
            labels = ["O" if tag == SKIPPED else tag for tag in to_iob2(sentence.tags)]
            sentence = sentence._replace(tags=tuple(labels), location=location)
            example = of_sentence(sentence, named[0] if named else None, name)
            if special and labelled:
                example = replace(example, asked=labelled)
            yield replace(example, answer="accept" if labelled else "skip")


def _names(source: Source) -> tuple[dict[int, str], dict[int, str]]:
    """The names of sentences, by the line of the comment, and of documents, by their number."""
    ids, documents, document = {}, {}, 0
    for number, line in enumerate(files.read_text(source.path).split("\n"), start=1):
        if match := _SENTENCE_ID.fullmatch(line.strip()):
            ids[number] = match[1]
        elif match := _DOCUMENT_ID.fullmatch(line.strip()):
            documents[document] = match[1]
        elif split_columns(line)[:1] == [DOCSTART]:
            document += 1
    return ids, documents


def write_columns(examples: Iterable[Example], target: Target) -> None:
    """A word and its tag on each line; -DOCSTART- where another document begins."""
    document = None
    with target.path.open("w", encoding="utf-8") as file:
        if target.types:
            file.write(f"# types: {' '.join(target.types)}\n")
        for example in examples:
            if example.document != document:
                document = example.document
                file.write(f"{DOCSTART} O\n\n")
                if document is not None and not document.isdigit():
                    file.write(example.comment("newdoc id", document))
            if example.id is not None:
                file.write(example.comment("sent_id", example.id))
            words = example.line_words()
            separator = "\t" if any(" " in word for word in words) else " "
            for word, tag in zip(words, to_scheme(example.tags, target.scheme), strict=True):
                if word == DOCSTART:
                    raise InputError(
                        f"{example.location}: the word {word!r} cannot stand in columns"
                    )
                file.write(f"{word}{separator}{tag}\n")
            file.write("\n")


def read_text(source: Source) -> Iterator[Example]:
    """The sentences of prose, without entities; a paragraph is a document."""
    files.check_input(source.path)
    name = str(source.path)
    with source.path.open("rb") as file:
        for item in texts.of_paragraphs(files.bounded_lines(file, name), name):
            if item.error:
                source.faults.add(item.location, item.error)
            elif item.words:
                words, document = item.words, str(item.document)
                sentence = Sentence(words, ("O",) * len(words), item.location, 0)
                yield of_sentence(sentence, None, document)


FORMATS = {
    "conll": Format(".conll", read_columns, write_columns),
    "jsonl": Format(".jsonl", tools.read_own, tools.write_own),
    "label-studio": Format(".json", tools.read_label_studio, tools.write_label_studio),
    "prodigy": Format(".jsonl", tools.read_prodigy, tools.write_prodigy),
    "doccano": Format(".jsonl", tools.read_doccano, tools.write_doccano),
    "conllu": Format(".conllu", treebanks.read_conllu, treebanks.write_conllu),
    "universal-ner": Format(".iob2", treebanks.read_iob2, treebanks.write_iob2),
    "csv": Format(".csv", csv_rows.read_csv, csv_rows.write_csv),
    "brat": Format("", brat.read_brat, brat.write_brat),
    "spacy": Format(".spacy", docbin.read_docbin, docbin.write_docbin),
    "hub": Format(".parquet", hub_rows.read_hub_rows, hub_rows.write_hub_rows),
}
