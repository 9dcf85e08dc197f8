"""Every family of encoders keeps every promise: tiny random ones, their tokenizers learnt here."""

import json
import os
import shutil
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from conftest import SAMPLE, TORCHRUN, refused, same_weights, small
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer
from transformers import PreTrainedTokenizerFast as AnyTokenizer

import evaluate
import train
from nerc import NERSmall
from nerc.commands import predict
from nerc.config import TrainConfig
from nerc.data import sources, tags
from nerc.data.corpus import Corpus, Sentence
from nerc.distributed import Session, Status, StopSignals
from nerc.errors import InputError
from nerc.model import encoders, encoding, inference, loading, onnx_engine
from nerc.model.pipeline import NERPipeline
from nerc.model.tokenizer import learn_tokenizer, load_tokenizer
from nerc.training.trained_rows import TrainedRows
from nerc.training.trainer import Trainer, TrainingData, make_optimizer

INVENTORY = tags.inventory(tags.CONLL_TYPES)
WINDOW = 64
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": WINDOW}
OFFSET = {"max_position_embeddings": WINDOW + 2, "type_vocab_size": 1}  # the first two: padding
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERTS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_pieces(words, _, size):
    return learn_tokenizer(Corpus.of([Sentence(tuple(words), None, "", 0)]), size)


def learnt(words, model, trainer, splitter, special) -> list:
    learner = Tokenizer(model)
    learner.pre_tokenizer = splitter
    how = {"special_tokens": list(special), "show_progress": False}
    learner.train_from_iterator(words, trainer=trainer(**how))
    return learner


def byte_pairs(words, kind, size):
    """As published: without a space before the first word."""
    special = BERTS if kind is AnyTokenizer else SPECIAL
    letters = pre_tokenizers.ByteLevel.alphabet()
    how = dict(vocab_size=size, initial_alphabet=letters)
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=True)
    learner = learnt(
        words, models.BPE(), lambda **k: trainers.BpeTrainer(**k, **how), splitter, special
    )
    if kind is AnyTokenizer:
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        ends = [(piece, learner.token_to_id(piece)) for piece in BERTS[2:4]]
        learner.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        return AnyTokenizer(tokenizer_object=learner, **dict(zip(names, BERTS, strict=True)))
    model = json.loads(learner.to_str())["model"]
    return kind(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def unigram(words, kind, size):
    special = (
        ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]") if "Deberta" in kind.__name__ else SPECIAL
    )
    how = dict(vocab_size=size, unk_token=special[3])
    trainer = lambda **k: trainers.UnigramTrainer(**k, **how)  # noqa: E731
    learner = learnt(words, models.Unigram(), trainer, pre_tokenizers.Metaspace(), special)
    vocabulary = json.loads(learner.to_str())["model"]["vocab"]
    return kind(vocab=[tuple(piece) for piece in vocabulary])


# type -> how its tokenizer is learnt and its class, and fields of its configuration
FAMILIES = {
    "bert": (word_pieces, None, {}),
    "roberta": (byte_pairs, transformers.RobertaTokenizer, OFFSET),
    "xlm-roberta": (unigram, transformers.XLMRobertaTokenizer, OFFSET),
    "distilbert": (word_pieces, None, {"hidden_dim": 64}),
    "electra": (word_pieces, None, {"embedding_size": 16}),
    "camembert": (unigram, transformers.CamembertTokenizer, OFFSET),
    "deberta-v2": (
        unigram,
        transformers.DebertaV2Tokenizer,
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
        | {"norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False}
        | {"type_vocab_size": 0},  # as deberta-v3-base
    ),
    "modernbert": (byte_pairs, AnyTokenizer, {"local_attention": 8, "num_hidden_layers": 3}),
}
PACKED = [name for name in FAMILIES if name in encoders.PACKED]
OTHERS = [name for name in FAMILIES if name not in encoders.PACKED]


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Saves the encoder of a family and its tokenizer as transformers does, once for each size."""
    made: dict[tuple[str, bool], Path] = {}

    def of(name: str, large: bool = False) -> Path:
        if (name, large) in made:
            return made[name, large]
        learn, kind, fields = FAMILIES[name]
        corpus = sources.load("sample:1000" if large else "sample:100", "train")
        words = [word for sentence in corpus for word in sentence.words]
        tokenizer = learn(words, kind, 4000 if large else 600)
        ids = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("pad", "cls", "sep")}
        ids |= {"bos_token_id": ids["cls_token_id"], "eos_token_id": ids["sep_token_id"]}
        values = SIZES | {"vocab_size": len(tokenizer)} | ids | fields
        values |= {"hidden_size": 128, "intermediate_size": 256} if large else {}
        transformers.set_seed(0)
        model = AutoModel.from_config(transformers.CONFIG_MAPPING[name](**values))
        for weight in () if large else model.parameters():  # else they hardly tell words apart
            if weight.ndim > 1:
                weight.data.mul_(4)
        made[name, large] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name, large])
        tokenizer.save_pretrained(made[name, large])
        return made[name, large]

    return of


@pytest.fixture(params=FAMILIES)
def family(request, make) -> Path:
    return make(request.param)


def start(folder: Path, lstm_hidden_size=0, dropout=0.0):
    """A new model on an encoder, in evaluation mode, with its tokenizer."""
    transformers.set_seed(0)
    shape = {"lstm_hidden_size": lstm_hidden_size, "dropout": dropout}
    model = loading.from_encoder(str(folder), INVENTORY, **shape).eval()
    return model, load_tokenizer(str(folder), model.config.vocab_size)


def of_words(*sentences) -> Corpus:
    return Corpus.of([Sentence(tuple(s.split(" ")), None, "", i) for i, s in enumerate(sentences)])


def test_the_logits_are_those_of_the_reference(family):
    """Alone and in batches; transformers cuts the words, pads them and computes their vectors."""
    model, tokenizer = start(family)
    corpus = sources.load("sample:30", "train").select(range(12))
    encoded = encoding.encode_for(model, tokenizer, corpus)
    reference = AutoModel.from_pretrained(family).eval()
    theirs = AutoTokenizer.from_pretrained(family, add_prefix_space=True)
    if isinstance(theirs.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for sentences in ([0], [5], range(12)):
        batch = encoding.collate(encoded, sentences)
        words = [list(corpus[i].words) for i in sentences]
        inputs = theirs(words, is_split_into_words=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            found = model(**batch.inputs(torch.device("cpu"))).logits
            hidden = reference(inputs.input_ids, inputs.attention_mask).last_hidden_state
            wanted = model.classifier(hidden)
        firsts = [
            (row, ids.index(word))
            for row, ids in enumerate(inputs.word_ids(row) for row in range(len(words)))
            for word in range(len(words[row]))
        ]
        wanted = torch.stack([wanted[place] for place in firsts])
        assert wanted.std(dim=0).mean() > 0.02  # they tell words apart
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_predictions_do_not_depend_on_the_batch(family):
    model, tokenizer = start(family, lstm_hidden_size=8)
    corpus = sources.load("sample:30", "train")
    long = of_words(*(" ".join(s.words) for s in corpus), " ".join(["Zoe said", "in Paris"] * 50))
    encoded = encoding.encode_for(model, tokenizer, long)
    wanted = inference.predict(model, encoded, batch_size=1)
    for how in ({}, {"batch_size": 7}):
        found = inference.predict(model, encoded, **how)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
    low = inference.predict(model, encoded, bf16=True)
    assert np.abs(np.exp(np.concatenate(low)) - np.exp(np.concatenate(wanted))).mean() < 0.02


@pytest.mark.parametrize(
    "name",
    ("albert", "big_bird", "data2vec-text", "deberta", "ernie", "longformer", "megatron-bert")
    + ("mobilebert", "mpnet", "rembert", "roberta-prelayernorm", "roformer"),
)
def test_other_families_read_as_their_reference(tmp_path, name):
    fields = {"albert": {"embedding_size": 16}, "longformer": {"attention_window": 8}}
    fields["mobilebert"] = dict.fromkeys(("embedding_size", "true_hidden_size"), 32)
    fields["mobilebert"]["intra_bottleneck_size"] = 32
    config = transformers.CONFIG_MAPPING[name](vocab_size=300, **SIZES | fields.get(name, {}))
    transformers.set_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    model = loading.from_encoder(str(tmp_path), INVENTORY, lstm_hidden_size=0, dropout=0.1).eval()
    ids = torch.arange(60).view(3, 20) + 5
    mask = torch.arange(20) < torch.tensor([20, 9, 3])[:, None]
    ids[~mask] = config.pad_token_id or 0
    with torch.inference_mode():
        found = model(ids, mask).logits[mask]
        reference = AutoModel.from_pretrained(tmp_path).eval()
        wanted = model.classifier(reference(ids, mask.long())[0][mask])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OTHERS)
def test_an_update_of_rows_of_the_table_is_one_of_the_whole_table(make, name, monkeypatch):
    """Where padding is read, too, its row must collect no gradient."""
    read, weights = None, []
    for trains_whole in (False, True):
        if trains_whole:
            monkeypatch.setattr(TrainedRows, "of", lambda *_: None)
        model, tokenizer = start(make(name), lstm_hidden_size=8)
        encoded = encoding.encode_for(model, tokenizer, sources.load("sample:40", "train"))
        config = TrainConfig(recipe="strong", epochs=2, batch_size=8, lr=1e-3)
        config = config.resolved(hidden_size=32, num_layers=2)
        accelerator = Accelerator()
        session = Session(accelerator, StopSignals(accelerator), Status(None))
        trained = Trainer(model, TrainingData(encoded), config, session, bf16=False)
        assert (trained.rows is None) == trains_whole
        read = read if trains_whole else trained.rows.read
        assert len(list(trained.run())) == 2
        weights.append(model.base_model.get_input_embeddings().weight[read])
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)


def test_no_word_is_lost(family):
    """Of 5,000 words, one by one, of what no tokenizer knows, and of what it takes for its own."""
    model, tokenizer = start(family)
    assert model.config.max_position_embeddings == WINDOW
    odd = ("\u2603", "\x07", "\u200b", "", " ", "<s>", "[SEP]", ".a" * 100, "東京", "é")
    words = (*odd, *("Zoe said in Paris".split() * 1250))
    encoded = encoding.encode_for(model, tokenizer, Corpus.of([Sentence(words, None, "", 0)]))
    counts = np.diff(encoded.word_offsets)
    assert len(counts) == len(words) and counts.min() >= 1
    assert counts.max() == encoding.most_pieces(WINDOW)
    (rows,) = inference.predict(model, encoded)
    assert rows.shape == (len(words), 9) and np.isfinite(rows).all()
    own = [encoded.pieces[a:b] for a, b in pairwise(encoded.word_offsets)]
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    assert not special & {int(i) for pieces in own for i in pieces}
    assert [p.tolist() for p in own[10:14]] == [p.tolist() for p in own[-4:]]


def test_a_word_is_cut_as_after_a_space(make):
    """A tokenizer of bytes, or of SentencePiece, marks the beginnings of words."""
    for name, mark in (
        ("roberta", "Ġ"),
        ("modernbert", "Ġ"),
        ("xlm-roberta", "▁"),
        ("deberta-v2", "▁"),
    ):
        _, tokenizer = start(make(name))
        encoded = tokenizer([["Paris", "Paris", ","]], is_split_into_words=True).encodings[0]
        cut = [
            [t for t, w in zip(encoded.tokens, encoded.word_ids, strict=True) if w == i]
            for i in range(3)
        ]
        assert cut[0] == cut[1] and all(pieces[0].startswith(mark) for pieces in cut), name


def test_a_saved_model_is_the_same_model(family, tmp_path):
    model, tokenizer = start(family, lstm_hidden_size=8, dropout=0.3)
    model.save_pretrained(tmp_path / "main")
    tokenizer.save_pretrained(tmp_path / "main")
    texts = ["Angela Merkel visited Paris.", "Zoe said, in São Paulo: no!"]
    model.tokenizer = tokenizer
    wanted = model.predict(texts)
    assert any(wanted)
    state = model.state_dict()
    for again in (
        loading.load(str(tmp_path / "main")),
        NERSmall.from_pretrained(tmp_path, revision="main"),
        AutoModelForTokenClassification.from_pretrained(tmp_path / "main"),
    ):
        assert type(again) is NERSmall and again.base_model_prefix == model.base_model_prefix
        assert again.config.max_position_embeddings == WINDOW
        assert {k: v.tolist() for k, v in again.state_dict().items()} == {
            k: v.tolist() for k, v in state.items()
        }
        again.tokenizer = load_tokenizer(str(tmp_path / "main"), model.config.vocab_size)
        assert again.predict(texts) == wanted
        assert {m.p for m in again.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    pipe = transformers.pipeline(
        "token-classification", model=str(tmp_path / "main"), pipeline_class=NERPipeline
    )
    found = [[(e["start"], e["end"]) for e in entities] for entities in pipe(texts)]
    assert found == [[(e["start"], e["end"]) for e in entities] for entities in wanted]
    config = json.loads((tmp_path / "main/config.json").read_text())
    assert config["model_type"] == "nerc"
    assert ("encoder" in config) == (model.base_model_prefix != "bert")


def test_dropout_is_set_everywhere(family):
    model, tokenizer = start(family, dropout=0.0)
    batch = encoding.collate(encoding.encode_for(model, tokenizer, of_words("a b c d e f")), [0])
    inputs = batch.inputs(torch.device("cpu"))

    def varies() -> bool:
        one, two = (model.train()(**inputs).logits for _ in range(2))
        return not one.equal(two)

    assert not varies()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loading.set_dropout(model, 0.4)
    assert varies() and model.shape()["dropout"] == 0.4
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.4}
    fields = (field for module in model.modules() for field in vars(module).items())
    assert {rate for name, rate in fields if name == "attention_dropout"} <= {0.4}
    assert all(before[k].equal(v) for k, v in model.state_dict().items())


def test_the_encoder_has_its_own_learning_rate(family):
    model, _ = start(family, lstm_hidden_size=8)
    config = TrainConfig(recipe="strong", head_lr=1e-2).resolved(
        hidden_size=model.config.hidden_size, num_layers=model.config.num_hidden_layers
    )
    layers = 3 if "modernbert" in family.name else 2
    assert config.lr == pytest.approx(5e-5 * (768 / 32) * (12 / layers))
    of_encoder = {id(p) for p in model.base_model.parameters()}
    named = dict(model.named_parameters())
    for group in make_optimizer(named, model.base_model_prefix, config).param_groups:
        for parameter in group["params"]:
            wanted = config.lr if id(parameter) in of_encoder else 1e-2
            assert group["peak_lr"] == wanted
    assert len(of_encoder) < len(list(model.parameters()))


LIKE_OTHERS = ("xlm-roberta", "electra", "camembert", "bert")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LIKE_OTHERS else n for n in FAMILIES],
)
def test_a_run_is_trained_resumed_and_used(make, name, folder, tmp_path, monkeypatch, capsys):
    """Micro-batches, precision, checkpoints, the card, evaluation and prediction."""
    family = make(name)
    flags = [*small(folder, family), "--precision", "float32", "--micro-batch-words", "100"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train.main([*flags, "--repo", str(whole), "--checkpoint-every", "never"])
    with monkeypatch.context() as patch:
        step = Trainer.step

        def stop(self, *args) -> None:
            step(self, *args)
            if self.update == 11:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(Trainer, "step", stop)
        with pytest.raises(SystemExit):
            train.main([*flags, "--repo", str(halves)])
    assert not (halves / "model_primary").exists()
    train.main([*flags, "--repo", str(halves), "--resume"])
    assert same_weights(whole, halves)
    card = (whole / "model_primary/README.md").read_text()
    assert "started from: " + family.name in card
    where = ["--repo", str(whole), "--revision", "model_primary"]
    evaluate.main([*where, "--corpus", str(folder), "--precision", "bf16"])
    (tmp_path / "in.txt").write_text("Angela Merkel visited Paris.\n")
    predict.main([*where, "--input", str(tmp_path / "in.txt")])
    out = capsys.readouterr().out
    assert "| model_primary" in out and '"entities"' in out


# ------------------------------------------------------------ published taggers, and exports


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "modernbert"])
def test_a_published_tagger_is_the_same_network(make, tmp_path, name):
    labels = {
        "id2label": dict(enumerate(INVENTORY)),
        "label2id": {t: i for i, t in enumerate(INVENTORY)},
    }
    torch.manual_seed(1)
    stock = AutoModelForTokenClassification.from_pretrained(make(name), **labels).eval()
    stock.save_pretrained(tmp_path)
    ours = loading.load(str(tmp_path))
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, stock(ids).logits, atol=1e-5, rtol=1e-5)
    ours.save_pretrained(tmp_path / "again")
    again = loading.load(str(tmp_path / "again"))
    assert again.config.inventory == INVENTORY and again.lstm is None
    assert again.state_dict().keys() == stock.state_dict().keys()


def test_a_head_that_is_not_ours_is_refused(make, tmp_path):
    stock = AutoModelForTokenClassification.from_pretrained(make("modernbert"), num_labels=12)
    stock.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="have 2 tensors, such as head.dense.weight"):
        loading.load(str(tmp_path))
    start_from_tagger = loading.from_encoder(
        str(tmp_path), INVENTORY, lstm_hidden_size=0, dropout=0
    )
    assert start_from_tagger.config.num_labels == 12


@pytest.mark.parametrize("name", PACKED)
def test_the_exported_graph_gives_the_same_probabilities(make, name):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, tokenizer = start(make(name), lstm_hidden_size=8)
    encoded = encoding.encode_for(model, tokenizer, sources.load("sample:30", "train"))
    wanted = np.exp(np.concatenate(inference.predict(model, encoded)))
    for int8, tolerance in ((False, 1e-5), (True, 0.1)):
        tagger = onnx_engine.Tagger.of(model, int8=int8)
        assert tagger.config.max_position_embeddings == WINDOW
        found = np.exp(np.concatenate(inference.predict(tagger, encoded)))
        np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_exported(make, name):
    model, _ = start(make(name))
    with pytest.raises(InputError, match=f"its encoder is a {name}, .* wanted one of bert, camem"):
        onnx_engine.Tagger.of(model, int8=True)


# ------------------------------------------------------------ what is refused


def change(path: Path, **fields) -> None:
    """Set fields of a JSON file; those that are ... are removed."""
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not ...}))


@pytest.mark.parametrize(
    ("model_type", "fault"),
    [
        ("gpt2", "type 'gpt2', wanted an encoder .*: a word must see both its sides"),
        ("t5", "type 't5', wanted an encoder .*decoders and encoder-decoders are refused"),
        ("bart", "type 'bart', wanted an encoder .*decoders and encoder-decoders are refused"),
        ("new-bert", "transformers has no such type, and nerc runs no remote code"),
    ],
)
def test_other_types_are_refused(make, tmp_path, folder, capsys, model_type, fault):
    where = shutil.copytree(make("roberta"), tmp_path / "encoder")
    auto = {"auto_map": {"AutoModel": "evil.Evil"}} if model_type == "new-bert" else {}
    change(where / "config.json", model_type=model_type, **auto)
    (where / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InputError, match=fault):
        start(where)
    capsys.readouterr()
    assert "such as bert or roberta" in refused(train, capsys, *small(folder, where))


@pytest.mark.parametrize("inside", [False, True])  # of an encoder, or of a revision with one
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "has the field auto_map"),
        ({"quantization_config": {"quant_method": "x"}}, "has the field quantization_config"),
        ({"to_dict": 1}, "has the field to_dict"),
        ({"attribute_map": {"hidden_size": "vocab_size"}}, "has the field attribute_map"),
        ({"is_decoder": True}, "is_decoder is true, wanted false"),
        ({"hidden_size": 0}, "hidden_size is 0, wanted a whole number above 0"),
        ({"hidden_size": "x"}, 'hidden_size is "x", wanted a whole number'),
        ({"hidden_size": 30}, "describes no "),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, wanted at most 1000"),
        ({"vocab_size": 10**12}, "describes a network of "),
        ({"vocab_size": 10**30}, "describes no |vocab_size is 1000000"),
        ({"intermediate_size": 10**12}, "describes a network of "),
        ({"max_position_embeddings": 6}, "has 4 positions"),
        ({"layer_norm_eps": "x", "norm_eps": "x"}, "describes no |layer_norm_eps is"),
        ({"hidden_act": "rm", "hidden_activation": "rm"}, "describes no |hidden_act is"),
        ({"model_type": 5}, "model_type is 5, wanted text"),
    ],
)
def test_a_configuration_of_no_network_is_refused(make, tmp_path, fields, fault, inside):
    name = "roberta" if "max_position_embeddings" in fields else "modernbert"
    where = shutil.copytree(make(name), tmp_path / "encoder")
    read = start
    if inside:
        shutil.rmtree(where)
        start(make(name))[0].save_pretrained(where)
        read = loading.load
        of_encoder = json.loads((where / "config.json").read_text())["encoder"]
        fields = {"encoder": of_encoder | fields}
        fault = fault.replace("model_type", "encoder.model_type")
    change(where / "config.json", **fields)
    for reads in (read, NERSmall.from_pretrained) if inside else (read,):
        with pytest.raises(InputError, match=f"config.json: .*({fault})") as error:
            reads(str(where))
        assert "\n" not in str(error.value)


def test_no_attention_comes_from_the_hub(make, tmp_path, monkeypatch):
    """transformers would fetch and run the code in a repository that config.json names."""
    reached = []
    hub_kernels = transformers.integrations.hub_kernels
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *a, **_: reached.append(a))
    for name in ("roberta", "modernbert"):
        where = shutil.copytree(make(name), tmp_path / name)
        kernel = {"_attn_implementation": "kernels-community/flash-attn"}
        change(where / "config.json", **kernel, attn_implementation="kernels-community/flash-attn")
        model, _ = start(where)
        model.save_pretrained(tmp_path / "main")
        of_encoder = json.loads((tmp_path / "main/config.json").read_text())["encoder"]
        change(tmp_path / "main/config.json", encoder=of_encoder | kernel)
        for read in (loading.load, NERSmall.from_pretrained):
            assert "/" not in read(str(tmp_path / "main")).base_model.config._attn_implementation
    assert not reached


def test_an_encoder_whose_vectors_depend_on_the_padding_is_refused(tmp_path):
    for name, fault in (("fnet", "depend on the padding"), ("mra", "do not see the words after")):
        config = transformers.CONFIG_MAPPING[name](vocab_size=300, **SIZES)
        AutoModel.from_config(config).save_pretrained(tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: is a {name}, .* {fault}"):
            start(tmp_path / name)


def test_weights_that_no_text_reads_are_frozen(tmp_path):
    """Processes would wait for their gradients."""
    config = transformers.LongformerConfig(vocab_size=300, attention_window=8, **SIZES)
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(tmp_path)
    model = loading.from_encoder(str(tmp_path), INVENTORY, lstm_hidden_size=0, dropout=0.0)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all("_global." in name for name in frozen)
    loading.set_dropout(model, 0.2)
    assert frozen == {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("what", ["slow", "no cls"])
def test_a_tokenizer_that_does_not_serve_is_refused(make, tmp_path, what):
    where = shutil.copytree(
        make("roberta" if what == "slow" else "modernbert"), tmp_path / "encoder"
    )
    if what == "slow":
        for file in where.glob("tokenizer*"):
            file.unlink()
        (where / "vocab.txt").write_text("Paris 3\nZoe 2\n")
        (where / "bpe.codes").write_text("P a 3\n")
        (where / "tokenizer_config.json").write_text('{"tokenizer_class": "PhobertTokenizer"}')
        fault = "its tokenizer, PhobertTokenizer, is none of the library tokenizers"
    else:
        change(where / "tokenizer_config.json", cls_token=..., sep_token=...)
        fault = "has no cls_token and no sep_token, .* take an encoder"
    with pytest.raises(InputError, match=fault):
        load_tokenizer(str(where), 5000)


def test_weights_that_lack_a_layer_are_refused(make, tmp_path):
    for name in ("roberta", "modernbert", "distilbert"):
        where = shutil.copytree(make(name), tmp_path / name)
        weights = load_file(where / "model.safetensors")
        lost = {k: v for k, v in weights.items() if ".1." not in k and "layers.1." not in k}
        save_file(lost, where / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InputError, match="its weights lack .* tensors"):
            start(where)
        more = weights | {
            k.replace(".1.", ".7."): v.clone() for k, v in weights.items() if ".1." in k
        }
        save_file(more, where / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InputError, match="such as .*7.*, that are not in config.json"):
            start(where)


# ------------------------------------------------------------ longer


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_it_learns(make, tmp_path, name):
    flags = f"--data gold --corpus sample --encoder {make(name, large=True)} --repo {tmp_path}"
    flags += " --recipe strong --precision float32 --lstm-hidden-size 128 --epochs 4"
    train.main([*flags.split(), "--num-threads", "1"])
    metrics = json.loads((tmp_path / "model_primary/metrics.json").read_text())
    assert metrics["validation"]["f1"] >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_give_one_report(make, tmp_path, name):
    """They train a model, and judge it as one process does."""
    root = Path(train.__file__).parent
    where = ["--repo", str(tmp_path)]
    flags = [*SAMPLE.split(), "--epochs", "8", "--encoder", str(make(name, large=True)), *where]
    judged = ["--revision", "model_primary", "--corpus", "sample:103", "--num-threads", "1", *where]
    for command in (
        [*TORCHRUN, "2", "train.py", *flags],
        [*TORCHRUN, "2", "evaluate.py", *judged, "--json", str(tmp_path / "2.json")],
    ):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    evaluate.main([*judged, "--json", str(tmp_path / "1.json")])
    one, two = (
        json.loads((tmp_path / f"{number}.json").read_text())["model_primary"]["validation"]
        for number in (1, 2)
    )
    assert one.pop("loss") == pytest.approx(two.pop("loss"), rel=1e-6)
    assert one == two and one["entities"] > 0
