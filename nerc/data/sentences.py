"""Splits raw text into sentences: English prose first, and the full stops of other scripts.

A full stop, exclamation or question mark (; in Greek) ends a sentence where white space follows,
and then no lower-case letter. Abbreviations, initials and the numbers of items end none; but where
a word follows that hardly ever begins a name (in the U.S. The ...), all but titles do. Closing
quotes and brackets belong to the sentence before them. A blank line ends every sentence, a line end
none.
"""

import regex

from nerc.data.words import ABBREVIATIONS, TITLES

_ABBREVIATIONS = f"{ABBREVIATIONS}|al|approx|ca|cf|ed|eds|est|p|pp|tel|vol|Fig|Figs|Ph|Tel|Univ|Vol"
_STARTERS = (
    "A|After|Although|An|And|As|At|Because|Before|But|By|Did|Do|Does|For|From|He|Her|Here|His|How|"
    "However|I|If|In|Is|It|Its|Many|Meanwhile|More|Most|My|On|One|Other|Our|She|Since|So|Some|Such|"
    "That|The|Their|Then|There|These|They|This|Those|Though|To|Two|Was|We|What|When|Where|Whether|"
    "Which|While|Who|Why|With|You|Your"
)
# What may end a sentence, with the closing quotes, brackets and numbers of notes after it.
_END = regex.compile(
    r"""
    (?P<blank>\n\s*\n\s*)
  | (?P<stop>[.!?…]+|(?<=\p{Greek})[;\u037e])
    ["'\p{Pe}\p{Pf}\p{Pi}]*(?:\[\d+\])*(?:\s+[\p{Pe}\p{Pf}]+)*(?=\s|\Z)
    # Other scripts put no blank after a full stop.
  | (?!．\d)[\p{STerm}--[.!?]]++["'\p{Pe}\p{Pf}]*+(?![,،、，]|(?<=[」』])[とっ])
    """,
    regex.VERBOSE | regex.V1,
)
_QUOTE = regex.compile(r'\s+"(?=\s|\Z)')  # apart, as in text made of words
_GOES_ON = regex.compile(r"\s+[\p{P}\p{S}]*(?:\p{Ll}(?!\p{Lu})|[,;:.!?)\]}%…](?=\s|\Z))")
_STARTER = regex.compile(rf"\s+[\p{{P}}\p{{S}}]*(?:{_STARTERS})\b(?!\.)")
# What stands before a full stop.
_ITEM = regex.compile(r"\s*[\p{P}\p{S}]*(?:\d{1,3}|[ivx]+|\p{L})")
_TITLE = regex.compile(rf"(?<![\p{{L}}\p{{N}}])(?:{TITLES}|e\.g|i\.e)\Z")
_ABBREVIATED = regex.compile(
    rf"(?<![\p{{L}}\p{{N}}])(?:{_ABBREVIATIONS}|(?:\p{{L}}\p{{M}}*\.)*\p{{L}}\p{{M}}*)\Z"
)
_LONGEST = 20  # characters before a full stop that tell an abbreviation


def split(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence in text, in characters; white space around it is left out."""
    sentences, start, seen, num_quotes = [], 0, 0, 0
    for match in _END.finditer(text):
        num_quotes += text.count('"', seen, match.end())
        seen = end = match.end()
        if match["stop"]:
            if num_quotes % 2 and (quote := _QUOTE.match(text, end)):
                end = quote.end()
            if not _is_end(text, start, match.start(), match["stop"], end):
                continue
        elif match["blank"]:
            num_quotes = 0
        sentences.append((start, end))
        start = end
    sentences.append((start, len(text)))
    return [span for start, end in sentences if (span := _trimmed(text, start, end))]


def _is_end(text: str, start: int, stop: int, mark: str, end: int) -> bool:
    """Whether a sentence from start on ends at end, after the mark that stands at stop."""
    if _GOES_ON.match(text, end):
        return False
    if mark != ".":
        return True
    if stop - start < _LONGEST and _ITEM.fullmatch(text, start, stop):
        return False
    before = text[max(start, stop - _LONGEST) : stop]
    if _TITLE.search(before):
        return False
    return not _ABBREVIATED.search(before) or _STARTER.match(text, end) is not None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """A span without the white space around it; None where there is nothing else."""
    part = text[start:end]
    size = len(part.strip())
    start += len(part) - len(part.lstrip())
    return (start, start + size) if size else None
