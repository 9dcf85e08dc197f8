"""spaCy's DocBin (.spacy): a Doc for each document, with its sentences and entities.

Names of documents and sentences are in Doc.user_data, which is msgpack: reading it runs no code.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from nerc.annotation.examples import Example, Source, Target, divided, import_spacy
from nerc.data import sentences
from nerc.data.spans import Span
from nerc.errors import InputError
from nerc.files import MOST_BYTES, check_input


def read_docbin(source: Source) -> Iterator[Example]:
    """The sentences of each Doc; one without sentences is split as other texts are."""
    docs = _docs(source)
    counts: Counter[str] = Counter()
    for number, doc in enumerate(docs, start=1):
        name = doc.user_data.get("document", str(number) if len(docs) > 1 else None)
        ids = doc.user_data.get("sent_ids")
        is_labelled = doc.has_annotation("ENT_IOB")
        example = Example(
            text=doc.text,
            spans=tuple(map(_span, doc.ents)),
            location=f"{source.path}: document {number}",
            # spaCy gives white space that is more than one blank as tokens of their own.
            words=tuple((t.idx, t.idx + len(t)) for t in doc if ids or not t.text.isspace()),
            document=None if name is None else str(name),
            answer="accept" if is_labelled else None,
        )
        counts["groups in Doc.spans that are left out"] += len(doc.spans)
        counts["identifiers of entities that are left out"] += sum(bool(e.kb_id_) for e in doc.ents)
        if is_labelled:
            counts["words without a label, which count as O"] += sum(t.ent_iob == 0 for t in doc)
        if not doc.has_annotation("SENT_START"):
            yield from divided(example, sentences.split(doc.text))
            continue
        bounds = [(sentence.start_char, sentence.end_char) for sentence in doc.sents]
        yield from divided(example, bounds, ids if ids and len(ids) == len(bounds) else None)
    source.notes.extend(f"{source.path}: {what}: {n:,}" for what, n in counts.items() if n)


def _docs(source: Source) -> list[Any]:
    spacy = import_spacy("the format spacy")
    check_input(source.path, most_bytes=MOST_BYTES)
    try:
        box = spacy.tokens.DocBin().from_bytes(source.path.read_bytes())
        docs = list(box.get_docs(spacy.vocab.Vocab()))
        for doc in docs:  # spaCy looks up names where they are used
            [(entity.label_, entity.kb_id_, entity.text) for entity in doc.ents]
        return docs
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{source.path}: is no DocBin of spaCy: {error!r:.200}") from None


def _span(entity: Any) -> Span:
    """The characters of an entity without white space around it, which may be tokens."""
    start = entity.end_char - len(entity.text.lstrip())
    end = entity.start_char + len(entity.text.rstrip())
    return Span(entity.label_, start, end, entity.text.strip())


def write_docbin(examples: Iterable[Example], target: Target) -> None:
    """A Doc for each document."""
    spacy = import_spacy("the format spacy")
    vocab, box = spacy.vocab.Vocab(), spacy.tokens.DocBin(store_user_data=True)
    for document, group in groupby(examples, lambda example: example.document):
        words, spaces, starts, tags, ids = [], [], [], [], []
        for example in group:
            words += example.word_texts
            spaces += example.blanks
            starts += [number == 0 for number in range(len(example.words))]
            tags += example.tags
            ids.append(example.id)
        doc = spacy.tokens.Doc(vocab, words=words, spaces=spaces, sent_starts=starts, ents=tags)
        doc.user_data["sent_ids"] = ids
        if document is not None:
            doc.user_data["document"] = document
        box.add(doc)
    target.path.write_bytes(box.to_bytes())
