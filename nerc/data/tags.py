"""Tags: the inventory of a model, conversion of schemes to IOB2, entities, allowed transitions."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

CONLL_TYPES = ("PER", "ORG", "LOC", "MISC")

# Labels of positions that are no word. Published checkpoints have them; no word is tagged with one.
SPECIAL_TAGS = ("[CLS]", "[SEP]", "X")
NOT_ASKED = "X"  # of a word whose label experts were not asked for

_TAG = re.compile(r"O|[BIESLUM]-\S+")
# What a tag's type cannot be read back with: B-PER of B-B-PER, several tags, or a probability.
_NO_TYPE = re.compile(
    r"[BI]-.*|.*\|.*|.*[,;/+](?:[BIESLUM]-.+|O)"
    r"|.*:(?i:[-+]?(?:[0-9.,]*|[0-9.,]+e[-+]?[0-9]+|nan|inf(?:inity)?)%?)"
)


class Entity(NamedTuple):
    """Words start to end (exclusive) of one sentence."""

    type: str
    start: int
    end: int


def is_tag(text: str) -> bool:
    """Whether text is `O`, or a prefix of IOB1, IOB2, BIOES, BILOU or BMES, a hyphen and a type."""
    return _TAG.fullmatch(text) is not None


def is_type(text: str) -> bool:
    """Whether text can name the type of an entity, so that its tags are read back as they are.

    It has no white space, and looks like no tag (O, X, B-PER), several (PER|O), or a probability
    (PER:0.5).
    """
    is_one = is_tag(f"B-{text}") and not _NO_TYPE.fullmatch(text)
    return is_one and text != "O" and text not in SPECIAL_TAGS


def inventory(types: Iterable[str]) -> tuple[str, ...]:
    """All labels of a model, index = id: O, B- and I- of every type, then the special tags.

    CoNLL-2003's four types come first, in its order, then the others alphabetically. If all types
    are CoNLL-2003's, the inventory has all four, so that models of partial data stay comparable.
    """
    types = set(types)
    if types <= set(CONLL_TYPES):
        types = set(CONLL_TYPES)
    return ("O", *(f"{prefix}-{t}" for t in ordered(types) for prefix in "BI"), *SPECIAL_TAGS)


def ordered(types: Iterable[str]) -> list[str]:
    """CoNLL-2003's types in its order, then the others alphabetically."""
    types = set(types)
    return [t for t in CONLL_TYPES if t in types] + sorted(types - set(CONLL_TYPES))


def types_of(tags: Iterable[str]) -> set[str]:
    """The entity types that occur in tags."""
    return {tag[2:] for tag in tags if tag != "O" and tag not in SPECIAL_TAGS}


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Convert one sentence's IOB1, IOB2, BIOES, BILOU or BMES tags to IOB2: B- begins an entity.

    Entities are read as conlleval reads them (Tjong Kim Sang & De Meulder 2003): I- continues the
    entity before it if that has the same type, and begins one otherwise. So IOB1's neighbours
    `I-PER I-ORG` and `I-PER B-PER` stay separate, and an I- after nothing of its type is an
    entity. E- and S- (L- and U- in BILOU) also end an entity, and M- of BMES is an I-. A prefix
    means the same in every scheme that has it, so the scheme need not be known.
    """
    result = []
    open_type = None  # type of the entity that an I- here would continue
    for tag in tags:
        prefix, _, type_ = tag.partition("-")
        if not type_:
            result.append(tag)
            open_type = None
            continue
        continues = prefix in "IELM" and open_type == type_
        result.append(f"{'I' if continues else 'B'}-{type_}")
        open_type = None if prefix in "ESLU" else type_
    return result


SCHEMES = ("iob2", "iob1", "bioes", "bilou", "bmes")


def to_scheme(tags: Sequence[str], scheme: str) -> list[str]:
    """One sentence's IOB2 tags in one of SCHEMES; to_iob2() reads them all back."""
    result = list(tags)
    if scheme == "iob2":
        return result
    inside, last, single = {"iob1": "III", "bioes": "IES", "bilou": "ILU", "bmes": "MES"}[scheme]
    before: Entity | None = None
    for entity in entities(tags):
        type_, start, end = entity
        is_neighbour = before is not None and before.end == start and before.type == type_
        first = "B" if scheme != "iob1" or is_neighbour else "I"
        size = end - start
        prefixes = [first, *inside * (size - 2), last] if size > 1 else [single]
        if scheme == "iob1":
            prefixes[0] = first
        result[start:end] = [f"{prefix}-{type_}" for prefix in prefixes]
        before = entity
    return result


def num_invalid_inside(tags: Sequence[str]) -> int:
    """How many tags of one sentence, in any scheme, continue an entity that is not there."""
    return sum(t[0] in "IELM" and new[0] == "B" for t, new in zip(tags, to_iob2(tags), strict=True))


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence in IOB2, in order; an invalid I- begins one, as in conlleval."""
    result = []
    start, open_type = 0, None
    for i, tag in enumerate((*tags, "O")):
        if open_type is not None and tag != f"I-{open_type}":
            result.append(Entity(open_type, start, i))
            open_type = None
        if open_type is None and tag[1:2] == "-":
            start, open_type = i, tag[2:]
    return result


def within(tags: Sequence[str], asked: Collection[int]) -> tuple[str, ...]:
    """One sentence's IOB2 tags, with NOT_ASKED for all words but those asked, by their number.

    An entity keeps all its tags if one of its words is asked: there is never a part of one.
    """
    kept = set(asked)
    for _, start, end in entities(tags):
        if not kept.isdisjoint(range(start, end)):
            kept |= {*range(start, end)}
    return tuple(tag if i in kept else NOT_ASKED for i, tag in enumerate(tags))


def entity_tags(type_: str, num_words: int) -> list[str]:
    """The IOB2 tags of one entity."""
    return [f"B-{type_}", *[f"I-{type_}"] * (num_words - 1)]


def may_follow(previous: str | None, tag: str) -> bool:
    """Whether IOB2 allows tag after previous (None: at the start of a sentence)."""
    return not tag.startswith("I-") or (previous is not None and previous[1:] == tag[1:])
