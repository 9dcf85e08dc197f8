"""Checkpoints that were published before nerc: made by transformers alone, without a BiLSTM, names
of labels or a tokenizer."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from conftest import logged, refused
from safetensors.torch import load_file

import evaluate
import train
from nerc import NERSmall
from nerc.commands import predict
from nerc.data import tags
from nerc.errors import InputError
from nerc.store import model_files


@pytest.fixture
def published(encoder, tmp_path) -> Path:
    """A store with the revision main in the published format."""
    transformers.set_seed(0)
    config = transformers.BertConfig.from_pretrained(encoder, num_labels=12)
    model = transformers.BertForTokenClassification(config)
    model.save_pretrained(tmp_path / "models/main")
    return tmp_path / "models"


def name_encoder(store: Path, encoder: str) -> None:
    """Write into config.json what transformers 4 wrote there."""
    path = store / "main/config.json"
    values = json.loads(path.read_text()) | {"_name_or_path": encoder}
    path.write_text(json.dumps(values))


def test_it_is_the_same_network_with_names(published):
    stock = transformers.BertForTokenClassification.from_pretrained(published / "main")
    ours = NERSmall.from_pretrained(published, revision="main")
    assert stock.config.id2label[1] == "LABEL_1"
    assert ours.config.inventory == tags.inventory(tags.CONLL_TYPES)
    assert ours.config.label2id["B-PER"] == 1 and ours.lstm is None
    pieces = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(pieces).logits, stock.eval()(pieces).logits)


def test_it_is_evaluated_tuned_and_saved_again(published, folder, encoder, capsys, tmp_path):
    name_encoder(published, str(encoder))
    where = ["--repo", str(published), "--corpus", str(folder)]
    evaluate.main([*where, "--revision", "main", "--split", "test"])
    out = capsys.readouterr().out
    assert f"using that of its encoder, {encoder}" in out and "| main " in out

    flags = ["--revision", "tuned", "--start", "main", "--epochs", "1", "--recipe", "strong"]
    train.main([*where, *flags])
    tuned = published / "tuned"
    config = json.loads((tuned / "config.json").read_text())
    assert config["model_type"] == "nerc" and config["id2label"]["1"] == "B-PER"
    assert (tuned / "tokenizer.json").exists()
    assert isinstance(transformers.AutoModelForTokenClassification.from_pretrained(tuned), NERSmall)

    model = NERSmall.from_pretrained(published, revision="main")
    model.save_pretrained(tmp_path / "anew")
    again = NERSmall.from_pretrained(tmp_path / "anew")
    assert again.config.inventory == model.config.inventory
    weights = [load_file(f / "model.safetensors") for f in (published / "main", tmp_path / "anew")]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[1])


def test_the_tokenizer_may_be_named(published, folder, encoder, capsys):
    where = ("--repo", published, "--corpus", folder, "--revision", "main")
    said = refused(evaluate, capsys, *where)  # there is no Hub here to have bert-base-cased from
    assert "holds no tokenizer" in said and "bert-base-cased" in said and "--tokenizer" in said
    name_encoder(published, "/home/somebody/bert")
    assert "/home/somebody/bert: no such folder" in refused(evaluate, capsys, *where)
    evaluate.main([*map(str, where), "--tokenizer", str(encoder)])
    assert "| main " in capsys.readouterr().out
    assert "no such folder" in refused(evaluate, capsys, *where, "--tokenizer", "/nowhere/bert")
    assert "left out without --start" in refused(train, capsys, "--tokenizer", encoder)
    assert predict.PROGRAM and refused(predict, capsys, "--repo", published, "--revision", "main")


def test_from_python_the_encoders_tokenizer_is_used_with_a_warning(published, encoder):
    name_encoder(published, str(encoder))
    model = NERSmall.from_pretrained(published, revision="main")
    with logged() as messages:
        found = model.predict("Zoe said in Paris")
    assert isinstance(found, list) and "holds no tokenizer" in messages[0]


def test_other_labels_without_names_are_refused(published, encoder):
    config = transformers.BertConfig.from_pretrained(encoder, num_labels=5)
    shutil.rmtree(published / "main")
    transformers.BertForTokenClassification(config).save_pretrained(published / "main")
    with pytest.raises(InputError, match=re.escape("LABEL_0, are not tags")):
        model_files.load_revision(published / "main")
