"""Cuts raw text into words as the training data are cut (the rules of the Penn Treebank).

White space always separates words. Scripts without blanks between words (Chinese, Japanese, Thai,
Lao, Khmer, Burmese) are cut into letters with their marks, as corpora of Chinese are. Punctuation
is separated from words, except where CoNLL-2003 keeps them together: hyphens (one-day, 6-4),
slashes and points between letters or digits (1/2, 1,000), apostrophes in names (O'Brien), the
points of initials and abbreviations (U.S., D., Inc.). 's, n't and the like are words of their own,
and so are currency signs: $, C$. Signs within words of other scripts are those of Unicode's word
boundaries (UAX #29). Characters that are not seen, such as marks of direction, part no word, and
belong to none at its ends.
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
# Letters of scripts that put no blanks between words; each, with its marks, is a word. scx: signs
# that several scripts share, too, such as the long vowel of Japanese.
_UNSPACED = (
    r"[[\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
    r"&&[\p{L}\p{M}\p{Nl}\p{No}]]"
)
_UNSPACED_LETTER = regex.compile(_UNSPACED, regex.V1)
_HIDDEN = r"[\p{Cf}--\p{GCB=Prepend}]"  # joiners, marks of direction, soft hyphens
# Hidden characters within a word belong to it, as in files of words, but a blank without width
# (U+200B) parts words. U+05F3 is a sign of Hebrew letters.
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_\u05f3{_HIDDEN}]--[{_UNSPACED}\u200b]]"
# What joins letters: also points in numbers (Arabic), signs on vowels (Armenian), l·l (Catalan), o‘
# (Uzbek), and the quote before the last letter of an acronym (Hebrew).
_JOINER = r"""[-/.,:&@٫٬՛՜՞‘]|·(?=[lL])|["״](?<=\p{Hebrew}.)(?=\p{Hebrew}\p{M}*+(?!\p{L}))"""
_NO_LETTER = rf"(?!{_HIDDEN}*+{_LETTER})"  # follows
_CLITIC = "(?:[sSmMdD]|re|RE|ve|VE|ll|LL)"  # of 's, 'm, 'd, 're, 've, 'll
_WORD = regex.compile(
    rf"""
    (?!{_HIDDEN})(?:
    (?<!\S)\d+\.(?=\s)                                     # 3. at the head of a line or an item
  | (?<![^\s(])[+.]\d{_LETTER}*(?:[-/.,:]{_LETTER}+)*      # +44 .500
  | \p{{Lu}}{{0,3}}\$                                      # C$
  | (?:\p{{L}}\p{{M}}*\.){{2,}}(?:[-/]{_LETTER}+)*         # U.S. a.m. U.S.-led
  | (?:{ABBREVIATIONS})\.{_NO_LETTER}
  | \p{{Lu}}\.(?=\s+\p{{Lu}})                            # D. Smith
  | {_LETTER}+?(?=[nN]['’][tT]{_NO_LETTER})              # do|n't
  | [nN]['’][tT]{_NO_LETTER}
  | ['’]{_CLITIC}{_NO_LETTER}
  | {_LETTER}+(?:(?:{_JOINER}|['’](?!{_CLITIC}{_NO_LETTER})){_LETTER}+)*
  | (?={_UNSPACED})\X\p{{M}}*
  | ([-.*=_/!?])\1+                                       # -- ...
    )(?<!{_HIDDEN})
  | \p{{GCB=Prepend}}                                     # \X would join even a blank to these
  | (?!{_HIDDEN}|[\s\x1c-\x1f])\X                        # one character, as readers see it
    """,
    regex.VERBOSE | regex.V1,
)
_GAP = regex.compile(rf"(?:[\s\x1c-\x1f]|{_HIDDEN})*", regex.V1)
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
        """A text that has nothing that is seen between words; InputError if it has more."""
        places, end = [], 0
        for word in words:
            start = text.find(word, end)
            if start < 0 or not word or not _GAP.fullmatch(text, end, start):
                raise InputError(f"the word {word!r} does not follow in the text {text[:60]!r}")
            end = start + len(word)
            places.append((start, end))
        if not _GAP.fullmatch(text, end):
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
