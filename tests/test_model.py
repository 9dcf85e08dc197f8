"""NERSmall against transformers' own BERT; saving and loading."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    BertConfig,
    BertForTokenClassification,
)

from nerc import NERSmall, NERSmallConfig
from nerc.data import sources, tags
from nerc.errors import InputError
from nerc.model import encoding
from nerc.model.loading import from_encoder, load, set_dropout

INVENTORY = tags.inventory(tags.CONLL_TYPES)


@pytest.fixture
def encoded(model, tokenizer):
    return encoding.encode_for(model, tokenizer, sources.load("sample:30", "train"))


def logits(model, encoded, sentences):
    """Logits of each sentence's words, computed in one batch."""
    batch = encoding.collate(encoded, sentences)
    with torch.inference_mode():
        found = model(**batch.inputs(torch.device("cpu"))).logits
    return found.split(batch.num_words.tolist())


@pytest.fixture
def published(tmp_path, encoder):
    """A checkpoint in the published format, made by transformers alone."""
    torch.manual_seed(1)
    config = BertConfig.from_pretrained(encoder, num_labels=12)
    reference = BertForTokenClassification(config).eval()
    reference.save_pretrained(tmp_path / "published")
    return tmp_path / "published", reference


def test_packed_logits_equal_those_of_bert(published, encoded):
    folder, reference = published
    model = NERSmall.from_pretrained(folder)
    batch = encoding.collate(encoded, range(10))
    with torch.inference_mode():
        ours = model(batch.input_ids, batch.attention_mask).logits
        theirs = reference(batch.input_ids, batch.attention_mask.long()).logits
    torch.testing.assert_close(ours[batch.attention_mask], theirs[batch.attention_mask])
    assert model.lstm is None and not model.training


@pytest.mark.parametrize("lstm_hidden_size", [0, 8])
def test_words_have_the_vectors_of_their_first_pieces(encoder, encoded, lstm_hidden_size):
    """Computing only the words' pieces gives what computing all pieces gives."""
    torch.manual_seed(0)
    model = from_encoder(encoder, INVENTORY, lstm_hidden_size=lstm_hidden_size, dropout=0.0)
    batch = encoding.collate(encoded, range(10))
    words = torch.cat(logits(model, encoded, range(10)))
    assert len(words) == batch.num_words.sum() < len(batch.real_pieces)
    model.lstm, lstm = None, model.lstm
    with torch.inference_mode():
        head, model.classifier = model.classifier, torch.nn.Identity()
        pieces = model(batch.input_ids, batch.attention_mask).logits.flatten(0, 1)
        vectors = pieces[batch.real_pieces][batch.word_pieces]
        if lstm is not None:
            sentences = vectors.split(batch.num_words.tolist())
            vectors = torch.cat([lstm(sentence)[0] for sentence in sentences])
        torch.testing.assert_close(words, head(vectors))


def test_token_types_change_the_logits_as_in_bert(published, encoded):
    folder, reference = published
    model = NERSmall.from_pretrained(folder)
    ids = encoding.collate(encoded, [0]).input_ids
    types = torch.ones_like(ids)
    with torch.inference_mode():
        ours = model(ids, token_type_ids=types).logits
        theirs = reference(ids, token_type_ids=types).logits
    torch.testing.assert_close(ours, theirs)


def test_logits_of_a_sentence_do_not_depend_on_its_batch(model, encoded):
    together = logits(model, encoded, range(20))
    for sentence in range(20):
        (alone,) = logits(model, encoded, [sentence])
        torch.testing.assert_close(alone, together[sentence], atol=1e-5, rtol=0)


@pytest.mark.parametrize("multiple", [32, 7])
def test_padding_a_batch_changes_no_word(model, encoded, multiple):
    batch = encoding.collate(encoded, range(9), multiple)
    with torch.inference_mode():
        found = model(**batch.inputs(torch.device("cpu"))).logits
    assert len(batch.real_pieces) % multiple == len(batch.labels) % multiple == 0
    own = int(batch.num_words[:9].sum())
    assert batch.labels[own:].eq(encoding.NO_LABEL).all() and len(found) == batch.num_words.sum()
    torch.testing.assert_close(
        found[:own], torch.cat(logits(model, encoded, range(9))), atol=1e-5, rtol=0
    )


def test_saved_and_loaded_is_the_same_model(model, encoded, tmp_path):
    model.save_pretrained(tmp_path / "main")
    assert (tmp_path / "main/model.safetensors").exists()
    for again in (
        load(str(tmp_path / "main")),
        NERSmall.from_pretrained(tmp_path, revision="main"),
        AutoModelForTokenClassification.from_pretrained(tmp_path / "main"),
    ):
        assert type(again) is NERSmall and again.config.inventory == INVENTORY
        one, two = (logits(m, encoded, range(5)) for m in (model, again))
        assert all(a.equal(b) for a, b in zip(one, two, strict=True))
    assert type(AutoConfig.from_pretrained(tmp_path / "main")) is NERSmallConfig


def test_half_precision_files_are_loaded_in_float32(model, tmp_path):
    model.half().save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["classifier.weight"].dtype == torch.float16
    again = load(str(tmp_path))
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert again.classifier.weight.equal(model.classifier.weight.float())


def test_an_encoder_keeps_its_weights_and_gets_a_new_head(encoder):
    model = from_encoder(str(encoder), INVENTORY, lstm_hidden_size=8, dropout=0.3)
    for name, weight in load_file(encoder / "model.safetensors").items():
        if not name.startswith("pooler"):
            assert model.get_parameter(f"bert.{name}").equal(weight)
    assert model.lstm.hidden_size == 8 and model.classifier.in_features == 16
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    assert model.config.inventory == INVENTORY and len(model.config.word_tags) == 9
    set_dropout(model, 0.0)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    assert model.config.hidden_dropout_prob == 0.0


def test_a_tagger_with_other_labels_serves_as_encoder(encoder, tmp_path):
    config = BertConfig.from_pretrained(encoder, num_labels=3)
    BertForTokenClassification(config).save_pretrained(tmp_path)
    assert (
        from_encoder(str(tmp_path), INVENTORY, lstm_hidden_size=0, dropout=0.1).config.num_labels
        == 12
    )


def spoil(folder, source, what):
    """A copy of an encoder with one thing wrong."""
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights, config = folder / "model.safetensors", folder / "config.json"
    if what == "no weights":
        weights.unlink()
    elif what == "no config":
        config.unlink()
    elif what == "cut off":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "no json":
        config.write_text("{")
    elif what == "other type":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "gpt2"}))
    elif what == "layer too many":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 1}))
    elif what == "wrong value":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": "x"}))
    elif what == "a list":
        config.write_text("[]")
    elif what == "layer missing":
        tensors = load_file(weights)
        kept = {k: v for k, v in tensors.items() if ".layer.1." not in k}
        save_file(kept, weights, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "what, message",
    [
        ("no weights", "holds no model.safetensors"),
        ("no config", "holds no config.json"),
        ("cut off", "cannot be loaded"),
        ("no json", "config.json: is not JSON"),
        ("other type", "of type 'gpt2', wanted an encoder"),
        ("layer missing", "its weights lack 16 tensors"),
        ("layer too many", "have 16 tensors, such as .* not in config.json"),
        ("wrong value", 'config.json: hidden_size is "x", wanted a whole number'),
        ("a list", r"config.json: its content is \[\], wanted an object"),
    ],
)
def test_a_broken_encoder_is_refused_with_what_is_wrong(tmp_path, encoder, what, message):
    folder = spoil(tmp_path / "spoilt", encoder, what)
    with pytest.raises(InputError, match=message):
        from_encoder(str(folder), INVENTORY, lstm_hidden_size=0, dropout=0.1)


@pytest.mark.parametrize("name", ["/no/such/encoder", "user/encoder"])
def test_an_encoder_that_does_not_exist_is_refused(name):
    with pytest.raises(InputError, match="no such folder"):
        from_encoder(name, INVENTORY, lstm_hidden_size=0, dropout=0.1)


def test_an_encoder_without_a_head_is_refused_as_a_revision(encoder):
    with pytest.raises(InputError, match="its weights lack"):
        load(str(encoder))
