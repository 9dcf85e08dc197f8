"""The shapes of words: what they are, and that a model reads them wherever it is used."""

import json

import pytest
import torch
from conftest import small
from transformers import BertTokenizer

import active_learn
import train
from nerc import NERSmall
from nerc.active_learning import plan
from nerc.cli import parse
from nerc.data import sources
from nerc.data.corpus import Corpus, Sentence
from nerc.model import encoding, word_shapes
from nerc.model.word_shapes import SHAPES, folds_case, shape_id
from nerc.store.revisions import Store


@pytest.mark.parametrize(
    "words, shape",
    [
        (". -- $ ( 😀", "no letter and no digit"),
        ("1996 1,000 6-4 ٣", "digits"),
        ("1990s G7 F-16 4th", "letters and digits"),
        ("rate o'clock de ß 東京 नमस्ते", "lower"),
        ("EU U.S. REUTERS ÉTÉ", "UPPER"),
        ("I U. É", "one Capital"),
        ("Peter D'you Élan ǅungla", "Capital"),
        ("McDonald iPhone O'Brien U.S.-led eBay", "miXed"),
    ],
)
def test_each_word_has_the_shape_of_its_letters_and_digits(words, shape):
    assert {SHAPES[shape_id(word)] for word in words.split()} == {shape}


def test_only_a_tokenizer_that_folds_case_hides_capitals(tokenizer):
    assert not folds_case(tokenizer)
    vocabulary = {piece: i for i, piece in enumerate(["[UNK]", "name", "n", "##a", "##m", "##e"])}
    assert folds_case(BertTokenizer(vocab=vocabulary, do_lower_case=True))
    assert not folds_case(BertTokenizer(vocab=vocabulary, do_lower_case=False))


@pytest.fixture
def reader(model):
    """A model that reads shapes, whose vectors are large enough to be seen."""
    model.read_word_shapes(len(SHAPES))
    model.word_shapes.weight.data.mul_(100)
    return model


def logits(model, encoded, places, multiple=1):
    batch = encoding.collate(encoded, places, multiple)
    with torch.inference_mode():
        found = model(**batch.inputs(torch.device("cpu"))).logits
    return found.split(batch.num_words.tolist())


def test_a_sentence_reads_the_same_alone_and_in_any_batch(reader, tokenizer):
    encoded = encoding.encode_for(reader, tokenizer, sources.load("sample:30", "train"))
    alone = [logits(reader, encoded, [i])[0] for i in range(10)]
    for multiple in (1, 32):
        for one, other in zip(alone, logits(reader, encoded, range(10), multiple), strict=False):
            torch.testing.assert_close(one, other)


def test_the_shape_of_a_word_adds_the_vector_that_it_has(reader, tokenizer):
    corpus = Corpus.of([Sentence(("Kiwi", "grows"), None, "", 0)])
    encoded = encoding.encode_for(reader, tokenizer, corpus)
    assert encoded.word_shapes.tolist() == [SHAPES.index("Capital"), SHAPES.index("lower")]
    (with_shapes,) = logits(reader, encoded, [0])
    reader.word_shapes.weight.data[SHAPES.index("Capital")] = 0
    (without,) = logits(reader, encoded, [0])
    assert not torch.allclose(with_shapes, without)


def test_a_model_without_shapes_has_none_of_their_weights(model, tokenizer):
    assert not any("word_shapes" in name for name in model.state_dict())
    assert (
        encoding.encode_for(model, tokenizer, sources.load("sample:3", "train")).word_shapes is None
    )


def test_a_saved_model_reads_shapes_as_it_did(reader, tokenizer, tmp_path):
    encoded = encoding.encode_for(reader, tokenizer, sources.load("sample:30", "train"))
    reader.save_pretrained(tmp_path)
    loaded = NERSmall.from_pretrained(tmp_path)
    for one, other in zip(*(logits(m, encoded, [0, 1]) for m in (reader, loaded)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", ["yes", "no", None])
def test_train_reads_shapes_where_asked_to(folder, encoder, tmp_path, value):
    more = [] if value is None else ["--word-shapes", value]
    train.main([*small(folder, encoder), "--epochs", "1", *more, "--repo", str(tmp_path)])
    saved = tmp_path / "model_primary"
    config = json.loads((saved / "config.json").read_text())
    run = json.loads((saved / "run.json").read_text())
    assert run["config"]["word_shapes"] == (value or "no")
    assert config["word_shapes"] == (len(word_shapes.SHAPES) if value == "yes" else 0)


def test_shapes_are_read_where_the_tokenizer_hides_capitals(
    folder, encoder, tmp_path, tokenizer, capsys
):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((encoder / file).read_bytes())
    vocabulary = tokenizer.get_vocab()
    BertTokenizer(vocab=vocabulary, do_lower_case=True).save_pretrained(tmp_path)
    for more, reads, is_told in (
        ([], "yes", True),
        (["--word-shapes", "yes"], "yes", False),
        (["--word-shapes", "no"], "no", False),
        (["--recipe", "paper"], "no", False),
    ):
        flags = [*small(folder, tmp_path), "--epochs", "1", *more, "--overwrite"]
        train.main([*flags, "--repo", str(tmp_path / "models")])
        assert ("so the model also reads the shapes" in capsys.readouterr().out) == is_told
        run = json.loads((tmp_path / "models" / "model_primary" / "run.json").read_text())
        assert run["config"]["word_shapes"] == reads


def test_rounds_with_and_without_shapes_are_of_different_plans(folder, encoder, tmp_path):
    def planned(*more):
        line = [*small(folder, encoder), "--repo", str(tmp_path), "--expert", "5", *more]
        *configs, _, _ = parse(line, "active_learn.py", "", *active_learn.CONFIGS)
        return plan.make_plan(*configs, Store(str(tmp_path)), "active_learn.py")

    default, no, yes = planned(), planned("--word-shapes", "no"), planned("--word-shapes", "yes")
    trial = default.trials()[0][0]
    assert len({p.identity(trial) for p in (default, no, yes)}) == 3
    assert "word_shapes" not in no.description  # as in plans of earlier versions, which read none
    assert "context" not in default.description
    assert no.changes(yes.description) == ["word-shapes was yes, is no"]
    assert yes.changes(no.description) == ["word-shapes was no, is yes"]
