"""Cuts raw text into words as the training data are cut (the rules of the Penn Treebank).

White space always separates words. Scripts without blanks between words (Chinese, Japanese, Thai,
Lao, Khmer, Burmese) are cut into characters. Punctuation is separated from words, except where
CoNLL-2003 keeps them together: hyphens (one-day, 6-4), slashes and points between letters or digits
(1/2, 1,000), apostrophes in names (O'Brien), the points of initials and abbreviations (U.S., D.,
Inc.). 's, n't and the like are words of their own, and so are currency signs: $, C$.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import regex

from nerc.errors import InputError

DOCSTART = "-DOCSTART-"  # the word of a line between documents, in CoNLL files

TITLES = "Adm|Capt|Col|Dr|Gen|Gov|Hon|Lt|Maj|Messrs|Mr|Mrs|Ms|Mt|Prof|Rep|Rev|Sen|Sgt|St|vs"
ABBREVIATIONS = (
    f"{TITLES}|Apr|Aug|Ave|Bros|Calif|Cie|Co|Corp|Dec|Feb|Fla|Inc|Jan|Jr|Jul|Jun|Ltd|Mar|No|Nov|"
    "Oct|Sep|Sept|Sr|cts|dlrs|etc|mln|pct"
)
# Scripts that put no blanks between words; each character, with its marks, is a word.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_UNSPACED_LETTER = regex.compile(f"[{_UNSPACED}]")
# Soft hyphens and joiners within a word belong to it, as in files of words.
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_\u00ad\u200c\u200d\u2060]--[{_UNSPACED}]]"
_CLITIC = "(?:[sSmMdD]|re|RE|ve|VE|ll|LL)"  # of 's, 'm, 'd, 're, 've, 'll
_WORD = regex.compile(
    rf"""
    (?<!\S)\d+\.(?=\s)                                     # 3. at the head of a line or an item
  | (?<![^\s(])[+.]\d{_LETTER}*(?:[-/.,:]{_LETTER}+)*      # +44 .500
  | \p{{Lu}}{{0,3}}\$                                      # C$
  | (?:\p{{L}}\p{{M}}*\.){{2,}}(?:[-/]{_LETTER}+)*         # U.S. a.m. U.S.-led
  | (?:{ABBREVIATIONS})\.(?!{_LETTER})
  | \p{{Lu}}\.(?=\s+\p{{Lu}})                            # D. Smith
  | [{_UNSPACED}]\p{{M}}*
  | {_LETTER}+?(?=[nN]['’][tT](?!{_LETTER}))              # do|n't
  | [nN]['’][tT](?!{_LETTER})
  | ['’]{_CLITIC}(?!{_LETTER})
  | {_LETTER}+(?:(?:[-/.,:&@]|['’](?!{_CLITIC}(?!{_LETTER}))){_LETTER}+)*
  | ([-.*=_/!?])\1+                                       # -- ...
  | \p{{GCB=Prepend}}                                     # \X would join even a blank to these
  | (?![\s\x1c-\x1f])\X                                  # one character, as readers see it
    """,
    regex.VERBOSE | regex.V1,
)
# What a reader leaves out of a word that goes on in the next line: the line end and, between
# lower-case letters, the hyphen (exam-ple, but Anglo-American). A part of its own is no such word:
# pre- and post-war.
_BREAK = regex.compile(
    rf"""
    (?:(?<={_LETTER})\u00ad | (?<=\p{{Ll}}\p{{M}}*)[-‐](?=\s+\p{{Ll}}) | (?<=(?:{_LETTER}|\.)[-‐]))
    [^\S\n]*\n[^\S\n]*(?=[\p{{L}}\p{{N}}])(?!(?:and|or)(?!{_LETTER}))
    """,
    regex.VERBOSE | regex.V1,
)


@dataclass(frozen=True)
class Text:
    """A text and the places of its words in it, in characters."""

    text: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    document: int = field(default=0, kw_only=True)  # of which it is a sentence; 0: of none

    @classmethod
    def of(cls, text: str) -> "Text":
        """Cut text into words."""
        return cls(text, tuple(words(text)))

    @classmethod
    def of_wrapped(cls, text: str) -> "Text":
        """Cut a text of several lines into words; one that a line end parts is one word."""
        places = list(range(len(text)))
        for match in _BREAK.finditer(text):
            places[match.start() : match.end()] = [-1] * len(match[0])
        places = [place for place in places if place >= 0]
        found = words("".join([text[place] for place in places]))
        return cls(text, tuple((places[a], places[b - 1] + 1) for a, b in found))

    @classmethod
    def of_words(cls, words: Iterable[str]) -> "Text":
        """A text of words, separated by blanks."""
        spans, start = [], 0
        words = tuple(words)
        for word in words:
            spans.append((start, start + len(word)))
            start += len(word) + 1
        return cls(" ".join(words), tuple(spans))

    @classmethod
    def aligned(cls, text: str, words: Sequence[str]) -> "Text":
        """A text that has nothing but white space between words; InputError if it has more."""
        places, end = [], 0
        for word in words:
            start = text.find(word, end)
            if start < 0 or text[end:start].strip() or not word:
                raise InputError(f"the word {word!r} does not follow in the text {text[:60]!r}")
            end = start + len(word)
            places.append((start, end))
        if text[end:].strip():
            raise InputError(f"{text[end:].strip()[:60]!r} of the text is in no word")
        return cls(text, tuple(places))

    @property
    def words(self) -> tuple[str, ...]:
        """The words as they are read, without the line end in one that covers two lines."""
        found = (self.text[start:end] for start, end in self.spans)
        if "\n" in self.text:
            found = (_BREAK.sub("", word) for word in found)
        return tuple(found)


def has_unspaced(text: str) -> bool:
    """Whether a text has letters of a script that puts no blanks between words."""
    return not text.isascii() and _UNSPACED_LETTER.search(text) is not None


def is_seen(word: str) -> bool:
    """Whether a word has a character that is seen: not only ones that join or hide others."""
    return word.isascii() or any(c.isprintable() or c.isspace() for c in word)


def words(text: str) -> list[tuple[int, int]]:
    """Start and end of each word in text, in characters."""
    return [match.span() for match in _WORD.finditer(text)]
