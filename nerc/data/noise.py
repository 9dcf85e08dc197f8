"""Plants errors of one kind in right labels, for tests of what weak labels can teach."""

from collections.abc import Sequence

import numpy as np

from nerc.data.tags import Entity, entities, entity_tags

# How often each error is made: per entity, or per word outside of entities (spurious). With these
# shares the labels agree with the right ones by an F1 of about 0.46, as Llama's of CoNLL-2003 do;
# by 0.67 where they are spurious, of which 2.4 per entity would leave few words outside.
SHARES = {"missing": 0.7, "spurious": 0.4, "type": 0.54, "boundary": 0.54}
SINGLE_WORDS = 0.7  # share of spurious entities of one word, about that of CoNLL-2003's entities


def noisy(
    words: Sequence[str], right: Sequence[str], kind: str, types: Sequence[str], seed: list[int]
) -> list[str]:
    """IOB2 tags of a sentence with errors of one kind of SHARES; the draw depends on seed alone."""
    random = np.random.default_rng(seed)
    row = list(right)
    if kind == "spurious":
        for _ in range(int(random.binomial(row.count("O"), SHARES[kind]))):
            size = int(random.geometric(SINGLE_WORDS))
            model = Entity(str(random.choice(types)), 0, size)
            put(row, None, spurious(words, row, model, random))
        return row
    for entity in entities(right):
        if random.random() < SHARES[kind]:
            after = None
            if kind == "boundary":
                for way in random.permutation(["cut", "grown"]):
                    after = after or changed(row, entity, str(way), types, random)
            elif kind == "type":
                after = changed(row, entity, kind, types, random)
            if after or kind == "missing":
                put(row, entity, after)
    return row


def put(row: list[str], before: Entity | None, after: Entity | None) -> None:
    """Replace an entity of the row of tags by another one; None: there is none."""
    if before:
        row[before.start : before.end] = ["O"] * (before.end - before.start)
    if after:
        row[after.start : after.end] = entity_tags(after.type, after.end - after.start)


def changed(
    row: Sequence[str], entity: Entity, kind: str, types: Sequence[str], random: np.random.Generator
) -> Entity | None:
    """The entity with another type, or cut or grown by a word; None if missing, or not possible."""
    if kind == "type":
        others = [type_ for type_ in types if type_ != entity.type]
        return entity._replace(type=str(random.choice(others)))
    if kind == "cut" and entity.end - entity.start > 1:
        at_start = random.random() < 0.5
        first = entity._replace(start=entity.start + 1)
        return first if at_start else entity._replace(end=entity.end - 1)
    options = []
    if kind == "grown" and entity.start > 0 and row[entity.start - 1] == "O":
        options.append(entity._replace(start=entity.start - 1))
    if kind == "grown" and entity.end < len(row) and row[entity.end] == "O":
        options.append(entity._replace(end=entity.end + 1))
    return options[int(random.integers(len(options)))] if options else None


def spurious(
    words: Sequence[str], row: Sequence[str], model: Entity, random: np.random.Generator
) -> Entity | None:
    """An entity of the type and size of model on words outside entities, with letters in them."""
    size = model.end - model.start
    if size > len(words):
        return None
    start = int(random.integers(len(words) - size + 1))
    place = range(start, start + size)
    is_free = all(row[k] == "O" for k in place)
    has_letters = any(c.isalpha() for k in place for c in words[k])
    return Entity(model.type, start, start + size) if is_free and has_letters else None
