"""Models that read documents: passages in training, whole documents in use."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small

import evaluate
import train
from nerc.commands import predict
from nerc.data import sources
from nerc.data.corpus import Corpus, Sentence
from nerc.data.texts import Item
from nerc.model import encoding, inference
from nerc.model.consistency import one_sense_per_word
from nerc.model.modeling import NERSmall
from nerc.training import batch_plan


@pytest.fixture
def reader(model):
    """A model that reads documents, and depends on them: untrained weights are small otherwise."""
    model.config.context = "document"
    with torch.no_grad():
        for weight in [p for p in model.parameters() if p.ndim > 1]:
            weight *= 8
    return model


@pytest.fixture
def encoded(reader, tokenizer):
    return encoding.encode_for(reader, tokenizer, sources.load("sample:60", "train"))


def text(*sentences: tuple[str, int]) -> Corpus:
    """A corpus of sentences with the numbers of their documents."""
    return Corpus.of(
        Sentence(tuple(words.split()), None, f"text:{i}", document)
        for i, (words, document) in enumerate(sentences)
    )


def probabilities(model, encoded, chosen=None, **options):
    return [np.exp(rows) for rows in inference.predict(model, encoded, chosen, **options)]


def test_documents_have_numbers_and_sentences_without_one_are_alone():
    corpus = text(("a", 0), ("b", 0), ("c", 1), ("d", 1), ("e", 2))
    assert corpus.documents().tolist() == [1, 2, 3, 3, 4]
    first, second = text(("a", 1)), text(("b", 1))
    other = Corpus.of(s._replace(location="other:0") for s in second)
    assert Corpus.joined([first, other]).documents().tolist() == [1, 2]  # of two files


def test_text_order_is_that_of_files_and_lines():
    corpus = text(*((f"w{i}", 1 + i // 6) for i in range(12)))
    shuffled = corpus.select(np.random.default_rng(0).permutation(12))
    ordered = shuffled.select(shuffled.text_order())
    assert [s.words[0] for s in ordered] == [f"w{i}" for i in range(12)]  # 10 comes after 9


def test_an_epoch_reads_every_sentence_once_in_passages_of_one_document(encoded):
    sentences = np.arange(len(encoded))
    updates = batch_plan.plan_passages(encoded, sentences, 8, seed=0, epoch=1)
    read = [encoding.joined(passages) for passages in updates]
    assert sorted(np.concatenate(read)) == sentences.tolist()
    assert [len(update) for update in read] == [8] * 7 + [4]
    lengths = set()
    for passage in (passage for passages in updates for passage in passages):
        assert (np.diff(passage) == 1).all()
        assert len(np.unique(encoded.documents[passage])) == 1
        assert len(passage) == 1 or encoded.num_pieces()[passage].sum() <= encoding.PASSAGE_PIECES
        lengths.add(len(passage))
    assert len(lengths) > 2  # some alone, others in passages
    again = batch_plan.plan_passages(encoded, sentences, 8, seed=0, epoch=1)
    other = batch_plan.plan_passages(encoded, sentences, 8, seed=0, epoch=2)
    assert [encoding.joined(u).tolist() for u in again] == [u.tolist() for u in read]
    assert [encoding.joined(u).tolist() for u in other] != [u.tolist() for u in read]


def test_sentences_read_several_times_or_with_gaps_make_no_passage_across(encoded):
    chosen = np.array([0, 1, 3, 4, 0, 1])  # two copies, and sentence 2 is not read
    encoded.documents[:5] = 1
    for epoch in range(1, 9):
        updates = batch_plan.plan_passages(encoded, chosen, 4, 0, epoch)
        passages = [p for passages in updates for p in passages]
        assert sorted(np.concatenate(passages)) == sorted(chosen)
        assert all((np.diff(passage) == 1).all() for passage in passages)


def test_a_passage_is_one_window_and_its_words_are_those_of_the_sentences(reader, encoded):
    batch = encoding.collate(encoded, [np.array([3, 4]), np.array([9])])
    assert len(batch.input_ids) == 2
    assert batch.num_words.tolist() == encoded.num_words(np.array([3, 4, 9])).tolist()
    pieces = batch.input_ids.flatten()[batch.real_pieces][batch.word_pieces].tolist()
    first = encoded.word_offsets[encoded.words_of(np.array([3, 4, 9]))]
    assert pieces == encoded.pieces[first].tolist()


def test_a_sentence_is_read_with_its_document_and_nothing_else(reader, tokenizer):
    document = [("Anna Berg lives here .", 1), ("Berg likes it .", 1), ("They left .", 1)]
    others = [("Oslo won .", 2), ("Berg is a town .", 2), ("Lone words .", 0)]
    whole = encoding.encode_for(reader, tokenizer, text(*document, *others))
    rows = probabilities(reader, whole)
    for corpus, places in (((*others, *document), [3, 4, 5]), (document, [0, 1, 2])):
        moved = encoding.encode_for(reader, tokenizer, text(*corpus))
        for batch_size in (1, None):
            found = probabilities(reader, moved, np.array(places), batch_size=batch_size)
            for one, other in zip(rows[:3], found, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)
    changed = encoding.encode_for(reader, tokenizer, text(*document[:2], ("Oslo .", 1)))
    assert np.abs(probabilities(reader, changed)[0] - rows[0]).max() > 1e-4
    # A sentence outside of documents is read as by a model that reads none.
    alone = encoding.encode_for(reader, tokenizer, text(others[2]))
    reader.config.context = "none"
    plain = encoding.encode_for(reader, tokenizer, text(others[2]))
    assert plain.documents is None
    np.testing.assert_allclose(rows[5], probabilities(reader, plain)[0], atol=1e-5)
    np.testing.assert_allclose(rows[5], probabilities(reader, alone)[0], atol=1e-5)


def test_a_sentence_gets_the_mean_of_being_read_alone_and_in_its_document(
    reader, tokenizer, monkeypatch
):
    monkeypatch.setattr(inference, "_DOCUMENT_WEIGHT", 0.0)
    document = text(("Anna lives here .", 1), ("Berg likes it .", 1))
    encoded = encoding.encode_for(reader, tokenizer, document)
    alone = inference.read(reader, encoded, np.array([0, 1]))
    together = inference.read(reader, encoded, [np.array([0, 1])])
    assert np.abs(np.exp(alone[0]) - np.exp(together[0])).max() > 1e-4
    for rows, one, other in zip(probabilities(reader, encoded), alone, together, strict=True):
        np.testing.assert_allclose(rows, (np.exp(one) + np.exp(other)) / 2, atol=1e-6)


def test_a_document_of_many_windows_keeps_every_word(reader, tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "PASSAGE_PIECES", 30)  # less than the encoder's limit
    sentences = [(f"word{i} Berg lives in Oslo .", 1) for i in range(120)]
    encoded = encoding.encode_for(reader, tokenizer, text(*sentences))
    assert encoded.num_pieces().sum() > 3 * encoding.PASSAGE_PIECES
    batch = encoding.collate(encoded, [np.arange(120)])
    assert batch.input_ids.shape[1] == 32  # with the special pieces
    rows = probabilities(reader, encoded)
    assert [len(row) for row in rows] == encoded.num_words().tolist()
    assert all(np.allclose(row.sum(axis=1), 1, atol=1e-4) for row in rows)


def test_the_same_words_of_a_document_agree_and_those_of_others_count_nothing(encoded):
    encoded.documents[:] = [1] * 30 + [2] * 30
    rng = np.random.default_rng(0)
    sentences = np.arange(60)
    rows = rng.dirichlet(np.ones(4), encoded.num_words().sum()).astype(np.float32)
    how = {"weight": 0.25, "within_documents": True}
    agreed = one_sense_per_word(encoded, sentences, rows, **how)
    first = encoded.num_words()[:30].sum()
    rows[first:] = rng.dirichlet(np.ones(4), len(rows) - first)
    again = one_sense_per_word(encoded, sentences, rows, **how)
    assert np.array_equal(agreed[:first], again[:first])
    assert not np.array_equal(agreed[first:], again[first:])


def test_training_in_parts_of_an_update_gives_the_same_weights(folder, encoder, tmp_path):
    flags = [*small(folder, encoder), "--context", "document", "--epochs", "2"]
    for name, words in (("whole", "0"), ("parts", "30")):
        more = ["--micro-batch-words", words, "--dropout", "0", "--precision", "float32"]
        train.main([*flags, *more, "--repo", str(tmp_path), "--revision", name])
    one, other = (NERSmall.from_pretrained(tmp_path, revision=r) for r in ("whole", "parts"))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_evaluate_reads_documents_or_sentences_alone(folder, encoder, tmp_path, capsys):
    flags = [*small(folder, encoder), "--context", "document", "--epochs", "1"]
    train.main([*flags, "--repo", str(tmp_path)])
    assert json.loads((tmp_path / "model_primary/run.json").read_text())["config"]["context"] == (
        "document"
    )
    assert "sentences are read with others of their documents" in capsys.readouterr().out
    losses = []
    for more in ([], ["--context", "none"]):
        report = tmp_path / "report.json"
        evaluate.main(
            ["--repo", str(tmp_path), "--revision", "model_primary", "--json", str(report), *more]
        )
        losses.append(json.loads(report.read_text())["model_primary"]["validation"]["loss"])
        output = capsys.readouterr().out
        assert ("read with others" in output) == (not more)
        assert ("every sentence is read alone" in output) == bool(more)
    assert losses[0] != losses[1]


def test_texts_of_one_paragraph_or_docstart_are_one_document(tmp_path):
    prose, columns = tmp_path / "prose.txt", tmp_path / "a.conll"
    prose.write_text("Anna sleeps. She snores.\n\nOslo won. It rained.\n")
    columns.write_text("Lone O\n\n-DOCSTART- O\n\nAnna O\n\nOslo O\n\n-DOCSTART- O\n\nBerg O\n")

    def documents(*paths, **how):
        config = predict.PredictConfig(input=[str(path) for path in paths], **how)
        return [item.document for item in predict.items(config)]

    assert documents(prose, prose, format="paragraphs") == [1, 1, 2, 2, 3, 3, 4, 4]
    assert documents(columns, format="conll") == [0, 1, 1, 2]
    assert documents(prose, format="text") == [0, 0, 0]  # an empty line is a text, too


@pytest.mark.parametrize("by_document", [True, False])
def test_no_chunk_ends_within_a_document_where_documents_are_read(by_document):
    numbers = [0, 1, 1, 1, 1, 1, 2, 0, 0, 3, 3, 3]
    items = (replace(Item.of_words(["a"]), document=number) for number in numbers)
    with predict.read_ahead(items, 2, by_document=by_document) as chunks:
        found = [[item.document for item in chunk] for chunk in chunks]
    assert sum(found, []) == numbers
    if by_document:
        assert all(not a[-1] or a[-1] != b[0] for a, b in zip(found, found[1:], strict=False))
        assert [1, 1, 1, 1, 1] in [[n for n in chunk if n == 1] for chunk in found]


def test_texts_of_a_document_are_read_together(reader, tokenizer):
    texts = [("Anna Berg lives in Oslo .", 1), ("Berg left .", 1)]
    together, alone = (
        next(inference.predict_stream(reader, tokenizer, [chunk]))
        for chunk in (
            [replace(Item.of_words(words.split()), document=n) for words, n in texts],
            [Item.of_words(words.split()) for words, _ in texts],
        )
    )
    whole = inference.predict(reader, encoding.encode_for(reader, tokenizer, text(*texts)))
    for (_, _, rows), (_, _, other), wanted in zip(together, alone, whole, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=1e-5)
        assert np.abs(rows - other).max() > 1e-4


def test_predict_says_where_it_reads_texts_alone(folder, encoder, tmp_path, capsys):
    train.main([*small(folder, encoder), "--context", "document", "--repo", str(tmp_path)])
    (tmp_path / "text.txt").write_text("Anna Berg lives in Oslo. Berg left.")
    flags = ["--repo", str(tmp_path), "--input", str(tmp_path / "text.txt"), "--num-threads", "1"]
    for form, is_said in (("paragraphs", False), ("text", True)):
        predict.main([*flags, "--format", form])
        assert ("every text here alone" in capsys.readouterr().err) == is_said
    for begin, is_said in (("", True), ("-DOCSTART- O\n\n", False)):
        (tmp_path / "text.txt").write_text(f"{begin}Anna O\n\nBerg O\n")
        predict.main([*flags, "--format", "conll"])
        assert ("every text was read alone" in capsys.readouterr().err) == is_said
