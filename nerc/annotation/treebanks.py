"""Treebanks: CoNLL-U, with tags in the column MISC, and the .iob2 files of Universal NER.

Universal NER (Mayhew et al. 2024) tags the syntactic words of Universal Dependencies, one a line.
Where CoNLL-U has multiword tokens (3-4 del, 3 de, 4 el), the token counts as one word, as it is
written, with the first tag of itself and its parts that is not O.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from nerc import files
from nerc.annotation.examples import Example, Source, Target, of_tags
from nerc.data.tags import is_tag, to_iob2, to_scheme
from nerc.data.words import Text
from nerc.errors import InputError

_NUMBER = re.compile(r"([1-9][0-9]*)(?:-([1-9][0-9]*))?")  # of a word, or of several
_EMPTY = re.compile(r"[0-9]+\.[1-9][0-9]*")
_COMMENT = re.compile(r"#\s*(newdoc(?:\s+id)?|sent_id|text)\s*(?:=\s*(.*))?")
_NOTES = {
    "token": "multiword tokens that are read as one word each, as they are written",
    "two": "multiword tokens with parts of two entities, which count for the first",
    "empty": "nodes that are not written (such as 8.1) and are left out",
    "text": "sentences with other words than their comment '# text', whose words count",
    "O": "tags B-O and I-O that are read as O",
}


@dataclass(frozen=True)
class _Word:
    form: str
    tag: str  # "": none
    blank: bool = True  # after it
    last: int = 0  # number of its last part


@dataclass
class _Block:
    """The lines of a sentence."""

    comments: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[int, list[str]]] = field(default_factory=list)  # their numbers and cells


class _File:
    """A file while it is read."""

    def __init__(self, source: Source, num: range, of_cells: Callable[[list[str]], _Word]) -> None:
        """num: of columns that a line may have; of_cells: the word of a line."""
        self.source, self.num, self.of_cells = source, num, of_cells
        self.counts: Counter[str] = Counter()

    def examples(self) -> Iterator[Example]:
        document, path = None, self.source.path
        for block in self._blocks():
            comments = block.comments
            if "newdoc" in comments or "newdoc id" in comments:
                self.counts["document"] += 1
                document = comments.get("newdoc id") or str(self.counts["document"])
            if not (words := self._words(block)):
                continue
            self.counts["sentence"] += 1
            self.counts["tag"] += any(word.tag for word in words)
            tags = to_iob2([word.tag or "O" for word in words])
            text = self._text(words, comments.get("text"))
            location = f"{path}:{block.lines[0][0]}"
            yield of_tags(text, tags, location, comments.get("sent_id") or None, document)
        self.source.faults.check()
        if self.counts["sentence"] and not self.counts["tag"]:
            raise InputError(f"{path}: no word has a tag, such as NER=B-PER in the column MISC")
        for name, note in _NOTES.items():
            if number := self.counts[name]:
                self.source.notes.append(f"{path}: {note}: {number:,}")

    def _blocks(self) -> Iterator[_Block]:
        block = _Block()
        for number, line in enumerate(files.read_text(self.source.path).split("\n"), start=1):
            if not line.strip() and block.lines:
                yield block
                block = _Block()
            elif line.startswith("#") and not block.lines:
                if match := _COMMENT.fullmatch(line.strip()):
                    block.comments[" ".join(match[1].split())] = match[2] or ""
            elif line.strip():
                block.lines.append((number, line.split("\t")))
        if block.lines:
            yield block

    def _words(self, block: _Block) -> list[_Word]:
        """The words of a sentence as they are written; none where a line has a fault."""
        words: list[_Word] = []
        expected = 1  # the number of the next part
        for line, cells in block.lines:
            if _EMPTY.fullmatch(cells[0]):
                self.counts["empty"] += 1
                continue
            through = words[-1].last if words else 0  # of the multiword token, if any
            if fault := self._fault(cells, expected, through):
                self.source.faults.add(f"{self.source.path}:{line}", fault)
                return []
            word, last = self.of_cells(cells), _NUMBER.fullmatch(cells[0])[2]
            if word.tag in ("B-O", "I-O"):  # in Universal NER's English; its readers take it as O
                word = replace(word, tag="O")
                self.counts["O"] += 1
            if last:
                self.counts["token"] += 1
                words.append(replace(word, last=int(last)))
                continue
            if expected <= through:
                if words[-1].tag in ("", "O"):
                    words[-1] = replace(words[-1], tag=word.tag)
                self.counts["two"] += word.tag[:1] in set("BSU") and words[-1].tag != word.tag
            else:
                words.append(word)
            expected += 1
        if words and expected <= words[-1].last:
            fault = f"the sentence ends before word {expected} of a multiword token"
            self.source.faults.add(f"{self.source.path}:{line}", fault)
            return []
        return words

    def _fault(self, cells: list[str], expected: int, through: int) -> str | None:
        """What is wrong with a line; through: the last part of the multiword token before it."""
        match = _NUMBER.fullmatch(cells[0])
        if len(cells) not in self.num or match is None:
            shown = "\t".join(cells)[:60]
            return f"{shown!r}, wanted {self.num[-1]} columns between tabs, the first a number"
        if int(match[1]) != expected:
            return f"found word {cells[0]}, wanted word {expected}"
        if match[2] and (expected <= through or int(match[2]) < expected):
            return f"the multiword token {cells[0]} is within another, or ends before it begins"
        try:
            word = self.of_cells(cells)
        except InputError as error:
            return str(error)
        if not word.form.strip():
            return "the word is empty"
        if word.tag and not is_tag(word.tag):
            return f"{word.tag!r} is no tag, wanted O or one such as B-PER"
        return None

    def _text(self, words: list[_Word], stated: str | None) -> Text:
        """The words in their text: as the comment gives it, or as SpaceAfter does."""
        forms = [word.form for word in words]
        if stated:
            try:
                return Text.aligned(stated, forms)
            except InputError:
                self.counts["text"] += 1
        pieces = [word.form + " " * word.blank for word in words]
        return Text.aligned("".join(pieces).strip(" "), forms)


def _of_conllu(cells: list[str]) -> _Word:
    misc = [item.partition("=")[::2] for item in cells[9].split("|")]
    tags = dict.fromkeys(value for name, value in misc if name.lower() in ("ner", "ne"))
    if len(tags) > 1:
        raise InputError(f"has the tags {' and '.join(tags)} in MISC, wanted one")
    return _Word(cells[1], "".join(tags), ("SpaceAfter", "No") not in misc)


def read_conllu(source: Source) -> Iterator[Example]:
    """The sentences of a CoNLL-U file that has NER= or NE= in its column MISC."""
    return _File(source, range(10, 11), _of_conllu).examples()


def read_iob2(source: Source) -> Iterator[Example]:
    """The sentences of Universal NER: number, word, tag and, in some lines, two columns more."""
    return _File(source, range(3, 6), lambda cells: _Word(cells[1], cells[2])).examples()


# ------------------------------------------------------------ writing


def _writer(line_of: Callable[[int, str, str, bool], str]) -> Callable:
    """A writer; line_of: the line of a word, by number, word, tag, whether a blank follows it."""

    def write(examples: Iterable[Example], target: Target) -> None:
        document, begin = None, "# newdoc\n"
        with target.path.open("w", encoding="utf-8") as file:
            for example in examples:
                if example.document != document:
                    document = example.document
                    file.write(example.comment("newdoc id", document) if document else begin)
                if example.id is not None:
                    file.write(example.comment("sent_id", example.id))
                file.writelines(_lines(example, target.scheme, line_of))

    return write


def _lines(
    example: Example, scheme: str, line_of: Callable[[int, str, str, bool], str]
) -> Iterator[str]:
    words = example.line_words()
    blanks = example.blanks
    text = "".join(word + " " * blank for word, blank in zip(words, blanks, strict=True))
    yield f"# text = {text.rstrip(' ')}\n"
    tags = to_scheme(example.tags, scheme)
    for number, (word, tag, blank) in enumerate(zip(words, tags, blanks, strict=True), start=1):
        yield line_of(number, word, tag, blank) + "\n"
    yield "\n"


def _conllu_line(number: int, word: str, tag: str, is_blank: bool) -> str:
    if "|" in tag:
        raise InputError(f"the tag {tag!r} of {word!r} cannot stand in MISC; rename it with --map")
    misc = f"NER={tag}" if is_blank else f"NER={tag}|SpaceAfter=No"
    return "\t".join([str(number), word, *"_______", misc])


write_conllu = _writer(_conllu_line)
write_iob2 = _writer(lambda number, word, tag, _: f"{number}\t{word}\t{tag}\t-\t-")
