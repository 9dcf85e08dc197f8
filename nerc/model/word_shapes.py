"""The shapes of words: what a tokenizer that folds case hides of them."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase

# Index = id. 0 stands where no word is known, and has no vector.
SHAPES = (
    "unknown",
    "no letter and no digit",
    "digits",
    "letters and digits",
    "lower",
    "UPPER",
    "one Capital",
    "Capital",
    "miXed",
)


@lru_cache(1 << 16)
def shape_id(word: str) -> int:
    """The id of a word's shape, by its letters and digits; letters without case count as lower."""
    characters = [c for c in word if c.isalnum()]
    if not characters:
        return SHAPES.index("no letter and no digit")
    num_digits = sum(c.isdigit() for c in characters)
    if num_digits:
        name = "digits" if num_digits == len(characters) else "letters and digits"
        return SHAPES.index(name)
    capitals = [c.isupper() or c.istitle() for c in characters]
    if not any(capitals):
        return SHAPES.index("lower")
    if all(capitals):
        return SHAPES.index("UPPER" if len(capitals) > 1 else "one Capital")
    return SHAPES.index("Capital" if capitals[0] and sum(capitals) == 1 else "miXed")


def word_shapes(sentences: Iterable[Iterable[str]]) -> np.ndarray:
    """The ids of the shapes of all words, uint8."""
    return np.fromiter((shape_id(word) for words in sentences for word in words), dtype=np.uint8)


def folds_case(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer reads capitals as small letters."""
    return tokenizer.tokenize("Name NAME") == tokenizer.tokenize("name name")
