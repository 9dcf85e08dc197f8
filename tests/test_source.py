"""What the files of a model may hold, and a revision that is replaced while it is read."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import accelerate
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations import hub_kernels

import evaluate
from nerc import NERSmall, files
from nerc.data import sources, tags
from nerc.errors import InputError
from nerc.model import encoding, loading
from nerc.model.tokenizer import learn_tokenizer, load_tokenizer
from nerc.store import model_files, records

ROOT = Path(__file__).parents[1]


@pytest.fixture
def revision(model, tokenizer, tmp_path) -> Path:
    """A model with its tokenizer, as train.py saves them."""
    folder = tmp_path / "main"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def change(path: Path, **fields) -> None:
    """Set fields of a JSON file; those that are ... are removed."""
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not ...}))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, wanted a whole number above 0"),
        ({"hidden_size": True}, "hidden_size is true, wanted a whole number"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3, wanted a number that divides"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"vocab_size": "600"}, 'vocab_size is "600"'),
        ({"vocab_size": 10**12}, "describes a network of 32,"),
        ({"num_hidden_layers": 10**6}, "describes a network of 8,"),
        ({"lstm_hidden_size": -1}, "lstm_hidden_size is -1, wanted 0 or more"),
        ({"lstm_hidden_size": 10**6}, "describes a network of 8,"),
        ({"max_position_embeddings": 5}, "max_position_embeddings is 5, wanted 6 or more"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"hidden_act": "rm -rf"}, 'hidden_act is "rm -rf"'),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0, wanted a probability below 1"),
        ({"classifier_dropout": -0.1}, "classifier_dropout is -0.1"),
        ({"layer_norm_eps": -1}, "layer_norm_eps is -1, wanted a number above 0"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is NaN, wanted a finite number"),
        ({"calibration": [float("nan"), 1.0]}, r"calibration\[0\] is NaN"),
        ({"calibration": [1.0]}, r"calibration is \[1.0\], wanted a slope and an offset"),
        ({"calibration": "12"}, 'calibration is "12", wanted a list'),
        ({"pad_token_id": 600}, "pad_token_id is 600"),
        ({"num_labels": 10**9, "id2label": ...}, "num_labels is 1000000000, wanted 1 to 100,000"),
        ({"id2label": {"0": 1}}, "id2label.0 is 1, wanted text"),
        ({"is_decoder": True}, "is_decoder is true, wanted false"),
        ({"torch_dtype": "int8"}, 'torch_dtype is "int8"'),
        ({"auto_map": {"AutoConfig": "evil.Evil"}}, "the field auto_map, which nerc does not"),
        ({"quantization_config": {"quant_method": "x"}}, "the field quantization_config"),
        ({"transformers_weights": "other.safetensors"}, "the field transformers_weights"),
        ({"to_dict": 1}, "the field to_dict"),
        ({"__dict__": {}}, "the field __dict__"),
        ({"attribute_map": {"hidden_size": "vocab_size"}}, "the field attribute_map"),
    ],
)
def test_a_configuration_of_no_network_of_ours_is_refused(revision, fields, fault):
    change(revision / "config.json", **fields)
    for read in (loading.load, NERSmall.from_pretrained):
        with pytest.raises(InputError, match=f"main/config.json: .*{fault}"):
            read(str(revision))


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (["O", "B-PER", "I-PER", "B-PER"], "have B-PER more than once"),
        (["O", "B-PER", "S-PER", "I-PER"], "such as S-PER, are not tags"),
        (["O", "B-PER", "I-PER", "I-LOC"], "lack B-LOC"),
        (["O", "B-PER", "I-PER", "B-LOC"], "lack I-LOC"),
        (["X", "B-PER", "I-PER"], "lack O"),
        ({"0": "O", "1": "B-PER", "3": "I-PER"}, "other ids than 0 to 2"),
    ],
)
def test_labels_that_are_no_inventory_are_refused(revision, labels, fault):
    """Whoever predicts with them would find too little, or lose confidences, without a word."""
    labels = labels if isinstance(labels, dict) else dict(enumerate(labels))
    change(revision / "config.json", id2label=labels, label2id=...)
    weights = load_file(revision / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][: len(labels)].clone()
    save_file(weights, revision / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"its labels.* {fault}"):
        loading.load(str(revision))
    with pytest.raises(InputError, match=f"its labels.* {fault}"):
        NERSmall.from_pretrained(revision).predict("Zoe")


@pytest.mark.parametrize("field", ["_attn_implementation", "attn_implementation"])
def test_no_attention_comes_from_the_hub(revision, encoder, tmp_path, monkeypatch, field):
    """transformers would fetch and run the code in a repository that config.json names."""
    reached = []
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *a, **_: reached.append(a))
    before = NERSmall.from_pretrained(revision).predict("Zoe said in Paris")
    change(revision / "config.json", **{field: "kernels-community/flash-attn"})
    assert NERSmall.from_pretrained(revision).predict("Zoe said in Paris") == before
    auto = transformers.AutoModelForTokenClassification.from_pretrained(revision)
    for model in (loading.load(str(revision)), auto):
        assert "/" not in model.config._attn_implementation
    shutil.copytree(encoder, tmp_path / "encoder")
    change(tmp_path / "encoder/config.json", **{field: "kernels-community/flash-attn"})
    where = str(tmp_path / "encoder")
    loading.from_encoder(where, tags.inventory(["PER"]), lstm_hidden_size=0, dropout=0.1)
    assert not reached


def damage_weights(folder: Path, what: str) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    if what == "int8":
        weights["classifier.weight"] = weights["classifier.weight"].to(torch.int8)
    elif what == "nan":
        weights["bert.encoder.layer.1.output.dense.weight"][3, 5] = torch.inf
    save_file(weights, path, metadata={"format": "pt"})
    index = {"weight_map": dict.fromkeys(weights, "../model.safetensors"), "metadata": {}}
    if what == "outside":
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        path.rename(folder.parent / "model.safetensors")
    elif what == "index":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')
        path.unlink()
    elif what == "header":
        path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    elif what == "shard":
        path.rename(folder / "shard-00000-model-00001-of-00001.safetensors")
        (folder / "model.safetensors").touch()
    elif what == "pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("int8", "model.safetensors: classifier.weight has numbers of type I8"),
        ("nan", "not finite, in bert.encoder.layer.1.output.dense.weight"),
        ("outside", "index.json: names '../model.safetensors', wanted"),
        ("index", "weight_map.a is 1, wanted text"),
        ("header", "model.safetensors: cannot be loaded"),
        ("shard", "holds shard-00000-model-00001-of-00001.safetensors"),
        ("pipe", "model.safetensors: is a pipe"),
    ],
)
def test_weights_that_are_not_what_they_should_be_are_refused(revision, what, fault):
    damage_weights(revision, what)
    with pytest.raises(InputError, match=fault):
        loading.load(str(revision))


def test_weights_in_several_files_are_read(revision, model):
    shutil.rmtree(revision)
    model.save_pretrained(revision, max_shard_size="20kB")
    assert len(list(revision.glob("*.safetensors"))) > 1
    again = loading.load(str(revision))
    assert all(p.equal(q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


# ------------------------------------------------------------ tokenizers


@pytest.mark.parametrize(
    ("file", "fields", "fault"),
    [
        ("tokenizer.json", {"model": ...}, "tokenizer.json: has no model"),
        ("tokenizer.json", {"model": {"type": "BPE"}}, "has 5 pieces, 5 of them special,"),
        (
            "tokenizer.json",
            {"model": {"type": "Unigram", "vocab": []}},
            "5 of them special, and does",
        ),
        ("tokenizer.json", {"normalizer": {"type": "None"}}, "cannot be loaded"),
        ("tokenizer_config.json", {"unk_token": "[NEW]"}, "numbers pieces up to 600|does not fit"),
        ("tokenizer_config.json", {"tokenizer_class": 5}, "cannot be loaded"),
        ("special_tokens_map.json", {"unk_token": ["a"]}, "cannot be loaded"),
    ],
)
def test_a_damaged_tokenizer_is_refused(revision, file, fields, fault):
    path = revision / file
    path.write_text(path.read_text() if path.exists() else "{}")
    change(path, **fields)
    with pytest.raises(InputError, match=fault):
        load_tokenizer(str(revision), 600)


@pytest.mark.parametrize("what", ["not json", "a list", "beyond", "twice", "without unknown"])
def test_a_vocabulary_that_does_not_fit_is_refused(revision, what):
    path = revision / "tokenizer.json"
    values = json.loads(path.read_text())
    vocabulary = values["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    if what == "without unknown":
        del vocabulary["[UNK]"]
        values["added_tokens"] = []
        values["model"]["unk_token"] = "[NONE]"
    vocabulary[last] = {"beyond": 5000, "twice": 17}.get(what, vocabulary[last])
    text = {"not json": "{", "a list": "[]"}.get(what, json.dumps(values))
    path.write_text(text)
    if what == "without unknown":
        change(revision / "tokenizer_config.json", tokenizer_class="TokenizersBackend")
    with pytest.raises(InputError) as error:
        load_tokenizer(str(revision), 600)
    assert str(revision) in str(error.value)


@pytest.mark.parametrize("kind", ["BertTokenizer", "TokenizersBackend"])
def test_a_tokenizer_that_cuts_texts_off_cuts_none_off_here(revision, tokenizer, kind):
    corpus = sources.load("sample:20", "train")
    wanted = encoding.encode(corpus, tokenizer, tags.inventory(tags.CONLL_TYPES), 64)
    truncation = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    padding = {"strategy": {"Fixed": 99}, "direction": "Left", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    change(revision / "tokenizer.json", truncation=truncation, padding=padding)
    change(revision / "tokenizer_config.json", tokenizer_class=kind, model_max_length=4)
    found = load_tokenizer(str(revision), 600)
    found = encoding.encode(corpus, found, tags.inventory(tags.CONLL_TYPES), 64)
    assert found.pieces.tolist() == wanted.pieces.tolist()
    assert found.word_offsets.tolist() == wanted.word_offsets.tolist()


# ------------------------------------------------------------ replaced while it is read


def save(folder: Path, types: list[str], seed: int, num_sentences: int) -> None:
    """A small revision of its own size, labels, vocabulary and records."""
    tokenizer = learn_tokenizer(sources.load(f"sample:{num_sentences}", "train"), 200 + 50 * seed)
    transformers.set_seed(seed)
    inventory = tags.inventory(types)
    model = loading.tiny(len(tokenizer), inventory, lstm_hidden_size=4 + 4 * seed, dropout=0.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = {"config": {"seed": seed}, "data": {}}
    (folder / "run.json").write_text(json.dumps(run))
    scores = dict.fromkeys(("f1", "loss", "accuracy", "precision", "recall"), float(seed))
    (folder / "metrics.json").write_text(json.dumps({"test": scores}))


WRITER = """
import shutil, sys, time
from pathlib import Path
from nerc.store.revisions import _put_in_place
folder = Path(sys.argv[1])
for i, line in enumerate(sys.stdin):
    new = folder / "new" / "revision"
    shutil.copytree(folder / "kept" / str(i % 2), new)
    print("go", flush=True)
    time.sleep(float(line))
    _put_in_place(new, folder / "main")
    print("done", flush=True)
"""


@pytest.fixture
def replaced(tmp_path):
    """Reads a revision in whose place another process puts the other of two meanwhile."""
    for number, types in enumerate((["PER"], ["GENE", "PROTEIN", "CELL"])):
        save(tmp_path / "kept" / str(number), types, number, 40 + 40 * number)
    shutil.copytree(tmp_path / "kept/1", tmp_path / "main")
    (tmp_path / "new").mkdir()
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}

    def reads(read, number: int):
        started = time.perf_counter()
        read(tmp_path / "main")
        seconds = time.perf_counter() - started
        with subprocess.Popen(command, cwd=ROOT, **pipes) as writer:
            for i in range(number):
                writer.stdin.write(f"{seconds * i / number}\n")
                assert writer.stdout.readline() == "go\n"
                yield read(tmp_path / "main")
                assert writer.stdout.readline() == "done\n"

    return reads


def test_a_revision_that_is_replaced_while_it_is_read_is_read_again(replaced):
    for model, tokenizer in replaced(model_files.load_revision, 40):
        shape = len(model.config.inventory), len(tokenizer)
        assert shape == {4: (12, 200), 8: (10, 250)}[model.config.lstm_hidden_size]
    for run, metrics in replaced(records.read, 100):
        assert run["config"]["seed"] == metrics["test"]["f1"]


def test_a_folder_that_is_replaced_again_and_again_is_given_up(tmp_path):
    def replace() -> None:
        shutil.rmtree(tmp_path / "main", ignore_errors=True)
        (tmp_path / "main").mkdir()
        (tmp_path / "main/config.json").write_text("{}")

    replace()
    with pytest.raises(files.Replaced, match="was replaced 10 times while it was read"):
        files.read_unreplaced(tmp_path / "main", replace)
    with pytest.raises(InputError, match="no such file"):
        files.read_unreplaced(tmp_path, lambda: files.read_text(tmp_path / "none"))
    with pytest.raises(InputError, match="no such file"):
        files.read_unreplaced(tmp_path / "none", lambda: files.read_text(tmp_path / "none"))


def test_the_tokenizer_of_another_revision_is_not_used(tmp_path):
    save(tmp_path / "main", ["PER"], 0, 40)
    model = NERSmall.from_pretrained(tmp_path, revision="main")
    (tmp_path / "main/report.json").write_text("{}")  # something more is no other revision
    shutil.copytree(tmp_path / "main", tmp_path / "copy")
    assert len(model.tokenizer) == 200
    model = NERSmall.from_pretrained(tmp_path, revision="main")
    shutil.rmtree(tmp_path / "main")
    save(tmp_path / "main", ["PER"], 1, 80)
    with pytest.raises(InputError, match="was replaced after its weights were read; load the"):
        model.predict("Zoe")


def test_a_revision_that_is_replaced_before_its_weights_are_read_is_refused(store, tmp_path):
    """Its run.json says which corpus to evaluate it on."""
    shutil.copytree(store, tmp_path / "models")
    config = evaluate.EvaluateConfig(("model_primary",), str(tmp_path / "models"))
    (found,) = evaluate.find_revisions(config)
    corpora = evaluate.read_corpora([found], config)
    change(tmp_path / "models/model_primary/run.json", id="of another run")
    with pytest.raises(InputError, match="was replaced meanwhile; run the same command again"):
        evaluate.evaluate(found, corpora, config, accelerate.Accelerator(), "float32")
