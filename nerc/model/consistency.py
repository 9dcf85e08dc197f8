"""Makes the probabilities of a word agree with those of the same word in other places."""

from collections.abc import Hashable

import numpy as np

from nerc.model.encoding import Encoded

_MIN_PROBABILITY = 1e-3  # least probability of a label in other places of a word


def one_sense_per_word(
    encoded: Encoded,
    sentences: np.ndarray,
    probabilities: np.ndarray,
    weight: float,
    *,
    within_documents: bool = False,
) -> np.ndarray:
    """Probabilities (words, labels) moved towards those of the same word in other places.

    A word mostly has one sense in a text (Gale et al. 1992), and entities have one type (Krishnan &
    Manning 2006). The result is the weighted geometric mean of a word's own probabilities and the
    mean of those in the other places with the same word pieces, of the same document or of all.
    """
    words = encoded.words_of(sentences)
    bounds = zip(encoded.word_offsets[words], encoded.word_offsets[words + 1], strict=True)
    ids: dict[Hashable, int] = {}
    keys = [encoded.pieces[a:b].tobytes() for a, b in bounds]
    if encoded.word_shapes is not None:  # which tell apart what has the same pieces: US, us
        keys = list(zip(keys, encoded.word_shapes[words].tolist(), strict=True))
    if within_documents:
        documents = np.repeat(encoded.documents[sentences], encoded.num_words(sentences))
        keys = list(zip(keys, documents.tolist(), strict=True))
    word_ids = [ids.setdefault(key, len(ids)) for key in keys]
    which = np.array(word_ids, dtype=np.int64)
    number = np.bincount(which, minlength=len(ids))[which, None]
    total = np.zeros((len(ids), probabilities.shape[1]))
    np.add.at(total, which, probabilities)
    elsewhere = (total[which] - probabilities) / np.maximum(number - 1, 1)
    mixed = probabilities ** (1 - weight) * np.maximum(elsewhere, _MIN_PROBABILITY) ** weight
    mixed = np.where(number > 1, mixed / mixed.sum(axis=1, keepdims=True), probabilities)
    return mixed.astype(np.float32)
