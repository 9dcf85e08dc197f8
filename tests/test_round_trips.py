"""Random corpora come back from each format of annotated text as they were."""

import tempfile
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest
from test_formats import content, read, write

from nerc.annotation.examples import Example, of_tags
from nerc.annotation.exchange import FORMATS
from nerc.data.tags import SCHEMES, entity_tags
from nerc.data.words import Text

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies

# Marks that formats use themselves, blanks and line ends of other kinds, characters of two units.
ODD = "aZé1_-#|=;,:\"'\\/<>&{}[]%😀नि \u0308\u00a0\u200d\u200b\u2028\x85\x0b\x1c"


def is_word(text: str) -> bool:
    """Whether CoNLL columns can hold a word."""
    return text == text.strip(" ") and any(c.isprintable() and not c.isspace() for c in text)


WORDS = st.one_of(
    st.text(ODD, min_size=1, max_size=6).filter(is_word),
    st.sampled_from(["NA", "null", "007", "1-2", "1.1", "NER=B-PER", "T1", "a  b", "O", "B-PER"]),
)
NAMES = st.text(ODD, min_size=1, max_size=5).filter(lambda name: name == name.strip())
NAMES = NAMES.filter(lambda name: not name.isdigit())
TYPES = st.sampled_from(["PER", "LOC", "E-X", "A-B-X", "né", "a:b/c", "O2"])


@st.composite
def sentences(draw) -> tuple[Text, list[str]]:
    """A text with words, between which blanks may be missing, and tags."""
    words = draw(st.lists(WORDS, min_size=1, max_size=5))
    blanks = draw(st.lists(st.sampled_from(["", " "]), min_size=len(words), max_size=len(words)))
    text, places = "", []
    for word, blank in zip(words, blanks, strict=True):
        places.append((len(text), len(text) + len(word)))
        text += word + blank
    tags: list[str] = []
    while len(tags) < len(words):
        size = draw(st.integers(1, len(words) - len(tags)))
        type_ = draw(st.one_of(st.none(), TYPES))
        tags += ["O"] if type_ is None else entity_tags(type_, size)
    return Text(text.rstrip(" "), tuple(places)), tags


@st.composite
def corpora(draw) -> list[Example]:
    """Documents, or a single one without a name, of sentences that may have names."""
    documents = draw(st.one_of(st.just([None]), st.lists(NAMES, min_size=1, max_size=3)))
    documents = [name for name, _ in groupby(documents)]
    return [
        of_tags(text, tags, "here", draw(st.one_of(st.none(), NAMES)), document)
        for document in documents
        for text, tags in draw(st.lists(sentences(), min_size=1, max_size=3))
    ]


def installed() -> list[str]:
    return [name for name in FORMATS if name != "spacy" or find_spec("spacy")]


def test_any_corpus_comes_back_from_each_format_as_it_was(request):
    plain = of_tags(Text.of_words(["Maria", "sings"]), ["B-PER", "O"], "here", "first", None)

    @hypothesis.settings(
        max_examples=2000 if request.config.getoption("--slow") else 40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(corpora(), st.sampled_from(SCHEMES))
    def check(examples, scheme):
        # CoNLL files of nothing but words that begin with # are refused.
        examples = [replace(plain, document=examples[0].document), *examples]
        for name in installed():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "there")
                write(examples, path, name, scheme)
                back, _ = read(path, name, "1,2" if name == "conll" else None)
            assert content(back) == content(examples), name

    check()
