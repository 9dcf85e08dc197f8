"""Predictions depend on the sentence alone; decoding finds the best valid sequence."""

import dataclasses
import re
import tracemalloc
from itertools import product

import numpy as np
import pytest
import torch

from nerc.data import sources, tags
from nerc.data.corpus import Corpus, Sentence
from nerc.errors import InputError
from nerc.model import encoding, inference

WORD_TAGS = tags.inventory(tags.CONLL_TYPES)[:9]


@pytest.fixture
def corpus(folder):
    return sources.load(str(folder), "test")


def test_predictions_do_not_depend_on_the_batch(model, tokenizer, corpus):
    encoded = encoding.encode_for(model, tokenizer, corpus)
    reference = inference.predict(model, encoded, batch_size=1)
    for batch_size in (7, 64):
        found = inference.predict(model, encoded, batch_size=batch_size)
        for one, other in zip(reference, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert inference.decode(found, WORD_TAGS) == inference.decode(reference, WORD_TAGS)


def test_predictions_do_not_depend_on_the_order(model, tokenizer, corpus):
    order = np.random.default_rng(0).permutation(len(corpus))
    forth, shuffled = (
        inference.predict(model, encoding.encode_for(model, tokenizer, c), batch_size=5)
        for c in (corpus, corpus.select(order))
    )
    for place, sentence in enumerate(order):
        np.testing.assert_allclose(shuffled[place], forth[sentence], atol=1e-5)


def test_a_stream_gives_what_predict_gives_in_order(model, tokenizer, corpus):
    whole = inference.predict(model, encoding.encode_for(model, tokenizer, corpus))
    sentences, read = list(corpus), []
    chunks = [sentences[:4], [], sentences[4:8], *([s] for s in sentences[8:])]
    found = inference.predict_stream(model, tokenizer, (read.append(c) or c for c in chunks))
    results = [next(found)]
    assert len(read) <= 2  # this one, and the next
    results += list(found)
    assert [len(result) for result in results] == [len(chunk) for chunk in chunks]
    flat = [answer for result in results for answer in result]
    assert [sentence for sentence, _, _ in flat] == sentences
    for (_, labels, row), wanted in zip(flat, whole, strict=True):
        assert [labels] == inference.decode([wanted], WORD_TAGS)
        np.testing.assert_allclose(row, wanted, atol=1e-5)
    assert list(inference.predict_stream(model, tokenizer, [])) == []


def test_every_word_has_one_distribution_over_the_tags_of_words(model, tokenizer, corpus):
    model.train()
    found = inference.predict(model, encoding.encode_for(model, tokenizer, corpus))
    assert model.training
    lengths = [len(sentence.words) for sentence in corpus]
    assert [row.shape for row in found] == [(length, 9) for length in lengths]
    for row in found:
        np.testing.assert_allclose(np.exp(row).sum(axis=1), 1, atol=1e-5)


def test_a_model_is_in_its_mode_again_after_a_prediction_that_failed(model, tokenizer, corpus):
    encoded = encoding.encode_for(model, tokenizer, corpus)
    model.train()
    out_of_range = np.array([len(encoded.pieces) + 10**6] * len(encoded.pieces), dtype=np.int32)
    with pytest.raises(IndexError):
        inference.predict(model, dataclasses.replace(encoded, pieces=out_of_range))
    assert model.training and all(module.training for module in model.modules())


def test_a_long_sentence_is_tagged_word_by_word(model, tokenizer, corpus):
    words = tuple(w for s in corpus for w in s.words) * 20
    long = Corpus.of([Sentence(words, ("O",) * len(words), "long", 0)])
    assert len(words) > 3000
    (row,) = inference.predict(model, encoding.encode_for(model, tokenizer, long))
    assert row.shape == (len(words), 9) and np.isfinite(row).all()
    (decoded,) = inference.decode([row], WORD_TAGS)
    assert tags.num_invalid_inside(decoded) == 0


@pytest.mark.parametrize("seed", range(5))
def test_viterbi_finds_the_best_valid_sequence(seed):
    rng = np.random.default_rng(seed)
    some_tags = ["O", "B-x", "I-x", "B-y", "I-y"]
    rows = [np.log(rng.dirichlet([0.3] * 5, size=n)) for n in (4, 1, 3)]
    decoded = inference.decode(rows, some_tags)
    for row, found in zip(rows, decoded, strict=True):
        valid = [p for p in product(range(5), repeat=len(row)) if is_valid(p, some_tags)]
        best = max(valid, key=lambda p: sum(row[t, i] for t, i in enumerate(p)))
        assert found == [some_tags[i] for i in best]


def is_valid(path, some_tags) -> bool:
    before = [None, *(some_tags[i] for i in path)]
    return all(tags.may_follow(a, some_tags[b]) for a, b in zip(before, path, strict=False))


def test_argmax_takes_each_word_by_itself():
    rows = [np.log(np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]))]
    assert inference.decode(rows, ["O", "B-x", "I-x"], "argmax") == [["I-x", "O"]]
    assert inference.decode(rows, ["O", "B-x", "I-x"], "viterbi") == [["B-x", "O"]]


def test_a_prediction_that_is_not_finite_is_an_error(model, tokenizer, corpus):
    encoded = encoding.encode_for(model, tokenizer, corpus)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.cls_token_id] = torch.nan
    with pytest.raises(InputError, match="not finite: its weights are broken"):
        inference.predict(model, encoded)
    model.tokenizer = tokenizer
    assert model.predict("") == []
    with pytest.raises(InputError, match=re.escape(f"the model from {model.name_or_path} gives")):
        model.predict(["\u2603"])
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.cls_token_id] = 0.0
        model.classifier.weight.fill_(3e38)  # finite, but not what is computed from them
    with pytest.raises(InputError, match="not finite"):
        inference.predict(model, encoded)


def test_viterbi_over_many_types_takes_little_memory():
    some_tags = ["O", *(f"{prefix}-type{i}" for i in range(500) for prefix in "BI")]
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(2 + i % 5, len(some_tags))).astype(np.float32) for i in range(500)]
    for row in rows:
        row[:, 2::2] += 5  # I- tags are likely, and so is what has to stand before them
    tracemalloc.start()
    found = inference.decode(rows, some_tags)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26  # a matrix of tags by tags for each sentence: 4 GB
    for row, decoded in zip(rows[:5], found[:5], strict=True):
        assert tags.num_invalid_inside(decoded) == 0
        (alone,) = inference.decode([row], some_tags)
        assert decoded == alone and any(tag.startswith("I-") for tag in decoded)
