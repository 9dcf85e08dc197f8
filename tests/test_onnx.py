"""Export to ONNX: the graph computes what torch does, and the folder needs no nerc."""

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused

import evaluate
from nerc.commands import export, predict
from nerc.data import sources
from nerc.data.corpus import Corpus, Sentence
from nerc.data.words import Text
from nerc.model import encoding, inference, loading, onnx_engine, pipeline
from nerc.model.word_shapes import SHAPES, shape_id
from nerc.store import model_files

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ROOT = Path(__file__).parents[1]
WORDS = (
    "Angela Merkel visited the U.S. in 1996 . Reuters 東京 \u2063 \x07 [SEP] ünïcode x" + "y" * 99
)


def odd_sentences(number: int) -> list[tuple[str, ...]]:
    """Sentences of 1 to 150 words, in one of which no word has a piece that is known."""
    draws, words = random.Random(0), WORDS.split(" ")
    found = [tuple(draws.choices(words, k=draws.choice((1, 2, 7, 30)))) for _ in range(number)]
    return [*found, ("\u2063",), ("Paris",), tuple(draws.choices(words, k=150))]


def encoded_for(model, tokenizer, sentences, documents=None):
    numbers = documents or range(len(sentences))
    rows = zip(sentences, numbers, strict=True)
    corpus = Corpus.of([Sentence(words, None, "", number) for words, number in rows])
    return encoding.encode_for(model, tokenizer, corpus)


def varied(model, *, lstm: bool, shapes: bool, special: bool = True):
    """The fixture's model with weights large enough to tell words apart, and with other parts."""
    torch.manual_seed(1)
    if shapes:
        model.read_word_shapes(len(SHAPES))
        model.word_shapes.weight.data.mul_(30)
    if not lstm:
        model.lstm, model.config.lstm_hidden_size = None, 0
        model.classifier = torch.nn.Linear(model.config.hidden_size, model.config.num_labels)
    for name, weights in model.named_parameters():
        if "LayerNorm" not in name:
            weights.data.normal_(std=0.3)
    return model.eval()


@pytest.mark.parametrize("lstm", [True, False])
@pytest.mark.parametrize("shapes", [True, False])
def test_the_graph_gives_the_probabilities_of_torch(model, tokenizer, lstm, shapes):
    model = varied(model, lstm=lstm, shapes=shapes)
    encoded = encoded_for(model, tokenizer, odd_sentences(60))
    tagger = onnx_engine.Tagger.of(model, int8=False)
    wanted = inference.predict(model, encoded)
    assert len({row.argmax() for rows in wanted for row in rows}) > 2
    for how in ({}, {"batch_size": 1}, {"batch_size": 7}):
        found = inference.predict(tagger, encoded, **how)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.exp(one), np.exp(other), atol=1e-5)
    tags = model.config.word_tags
    assert inference.decode(found, tags) == inference.decode(wanted, tags)


def test_the_graph_reads_documents_as_torch_does(model, tokenizer):
    model.config.context = "document"
    encoded = encoded_for(model, tokenizer, odd_sentences(30), documents=[0] * 20 + [1] * 13)
    tagger = onnx_engine.Tagger.of(model, int8=False)
    rows = [np.concatenate(inference.predict(m, encoded)) for m in (model, tagger)]
    np.testing.assert_allclose(np.exp(rows[0]), np.exp(rows[1]), atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "gelu_new"])
def test_other_activations_are_exported_too(encoder, tokenizer, tmp_path, activation):
    shutil.copytree(encoder, tmp_path / "encoder")
    config = json.loads((tmp_path / "encoder/config.json").read_text())
    (tmp_path / "encoder/config.json").write_text(json.dumps(config | {"hidden_act": activation}))
    how = {"lstm_hidden_size": 0, "dropout": 0.0}
    model = loading.from_encoder(str(tmp_path / "encoder"), ("O", "B-X", "I-X"), **how).eval()
    encoded = encoded_for(model, tokenizer, odd_sentences(5))
    tagger = onnx_engine.Tagger.of(model, int8=False)
    rows = [np.concatenate(inference.predict(m, encoded)) for m in (model, tagger)]
    np.testing.assert_allclose(np.exp(rows[0]), np.exp(rows[1]), atol=1e-5)


@pytest.mark.parametrize("lstm", [True, False])
def test_in_8_bits_a_sentence_is_read_the_same_in_any_batch(model, tokenizer, lstm):
    model = varied(model, lstm=lstm, shapes=True)
    encoded = encoded_for(model, tokenizer, odd_sentences(40))
    tagger = onnx_engine.Tagger.of(model, int8=True)
    alone = np.concatenate(inference.predict(tagger, encoded, batch_size=1))
    np.testing.assert_allclose(np.concatenate(inference.predict(tagger, encoded)), alone, atol=2e-2)
    exact = np.concatenate(inference.predict(model, encoded))
    assert 1e-4 < np.abs(np.exp(exact) - np.exp(alone)).mean() < 0.03


def test_the_patterns_of_shapes_give_the_shape_of_every_word():
    words = ["".join(c) for n in range(1, 6) for c in itertools.product("aB1.", repeat=n)]
    for word in [*words, "ǅungla", "東京", "٣", "É", "Ⅷ", "ª"]:
        kinds = "".join("aA0"[2 if c.isdigit() else c.istitle()] for c in word if c.isalnum())
        patterns = onnx_engine.SHAPE_PATTERNS.items()
        name = next(name for pattern, name in patterns if re.fullmatch(pattern, kinds))
        assert name == SHAPES[shape_id(word)], word


@pytest.fixture(scope="module")
def exported(taught, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("exported") / "onnx"
    export.main(["--repo", str(taught), "--output", str(output)])
    return output


def odd_texts(number: int) -> str:
    """Lines of text: empty ones, of one word, of many words, of characters that are unknown."""
    draws, lines = random.Random(1), ["", "Paris", "\u2063", "x" * 500]
    names = [word for s in sources.load("sample:50", "test") for word in s.words] + WORDS.split()
    for _ in range(number - len(lines)):
        lines.append(" ".join(draws.choices(names, k=draws.choice((1, 3, 12, 40, 130)))))
    return "\n".join(lines) + "\n"


def answers(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same_answers(found: list[dict], wanted: list[dict]) -> bool:
    def parts(answer, name):
        return [{k: v for k, v in e.items() if k != name} for e in answer["entities"]]

    rows = list(zip(found, wanted, strict=True))
    close = all(
        abs(one["confidence"] - other["confidence"]) <= 1.01e-4
        for a, b in rows
        for one, other in zip(a["entities"], b["entities"], strict=True)
    )
    return close and all(parts(a, "confidence") == parts(b, "confidence") for a, b in rows)


def test_predict_gives_the_same_answers_with_either_engine(taught, exported, tmp_path):
    (tmp_path / "in.txt").write_text(odd_texts(60), encoding="utf-8")
    flags = ["--input", tmp_path / "in.txt", "--output"]
    torch_flags = ["--repo", taught, *flags, tmp_path / "torch.jsonl"]
    predict.main([str(flag) for flag in torch_flags])
    onnx_flags = ["--engine", "onnx", "--revision", exported, *flags, tmp_path / "onnx.jsonl"]
    predict.main([str(flag) for flag in onnx_flags])
    found, wanted = answers(tmp_path / "onnx.jsonl"), answers(tmp_path / "torch.jsonl")
    assert sum(len(answer["entities"]) for answer in wanted) > 100
    assert same_answers(found, wanted)


def test_auto_is_the_precision_of_the_export(exported, tmp_path):
    (tmp_path / "in.txt").write_text(odd_texts(3), encoding="utf-8")
    flags = ["--engine", "onnx", "--revision", exported, "--input", tmp_path / "in.txt", "--output"]
    for name, more in (("plain", []), ("auto", ["--precision", "auto"])):
        predict.main([str(flag) for flag in [*flags, tmp_path / name, *more]])
    assert (tmp_path / "auto").read_bytes() == (tmp_path / "plain").read_bytes()


def test_the_calibration_and_the_limits_come_along(taught, exported):
    model, tokenizer = model_files.load_revision(taught / "model_primary")
    tagger, pieces = onnx_engine.load(exported)
    assert model.config.calibration and tagger.config.calibration == model.config.calibration
    assert tagger.config.word_tags == model.config.word_tags
    assert tagger.config.max_position_embeddings == model.config.max_position_embeddings
    assert pieces.get_vocab() == tokenizer.get_vocab()


def test_predict_and_evaluate_compute_in_8_bits_and_say_so(taught, tmp_path, capsys):
    (tmp_path / "in.txt").write_text(odd_texts(30), encoding="utf-8")
    flags = ["--input", tmp_path / "in.txt", "--output", tmp_path / "int8.jsonl"]
    predict.main([str(f) for f in ("--repo", taught, "--precision", "int8", *flags)])
    assert "computing in int8" in capsys.readouterr().err
    assert sum(len(answer["entities"]) for answer in answers(tmp_path / "int8.jsonl")) > 50
    figures = {}
    for precision in ("float32", "int8"):
        path = tmp_path / f"{precision}.json"
        flags = ["--repo", taught, "--revision", "model_primary", "--json", path]
        evaluate.main([str(f) for f in (*flags, "--precision", precision)])
        assert ("computed in int8" in capsys.readouterr().out) == (precision == "int8")
        figures[precision] = json.loads(path.read_text())["model_primary"]["validation"]["f1"]
    assert figures["float32"] > 0.1 and abs(figures["int8"] - figures["float32"]) < 0.1


def test_an_export_in_8_bits_is_smaller_and_says_what_it_is(taught, exported, tmp_path, capsys):
    export.main(["--repo", str(taught), "--int8", "--output", str(tmp_path / "int8")])
    sizes = [(folder / "model.onnx").stat().st_size for folder in (tmp_path / "int8", exported)]
    assert sizes[0] < sizes[1]
    (tmp_path / "in.txt").write_text("Paris\n")
    flags = ["--engine", "onnx", "--revision", tmp_path / "int8", "--input", tmp_path / "in.txt"]
    predict.main([str(flag) for flag in flags])
    assert "computing in int8" in capsys.readouterr().err


# ------------------------------------------------------------ bad input


def changed(exported: Path, folder: Path, **values) -> Path:
    shutil.copytree(exported, folder)
    about = json.loads((folder / "nerc.json").read_text())
    (folder / "nerc.json").write_text(json.dumps(about | values))
    return folder


def test_damaged_and_foreign_folders_end_in_one_line(taught, exported, tmp_path, capsys):
    def said(folder):
        return refused(predict, capsys, "--engine", "onnx", "--revision", folder)

    assert "holds no nerc.json" in said(taught / "model_primary")
    assert "absent: no such folder" in said(tmp_path / "absent")
    assert "format is 9, wanted 1" in said(changed(exported, tmp_path / "a", format=9))
    assert "are not tags" in said(changed(exported, tmp_path / "b", labels=["O", "PERSON"]))
    three = changed(exported, tmp_path / "c", labels=["O", "B-PER", "I-PER"])
    assert "has 3 labels, and model.onnx 9" in said(three)
    for file in ("model.onnx", "tokenizer.json"):
        folder = changed(exported, tmp_path / file[:3])
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[:-50])
        assert f"{file}: is not as nerc.json describes it" in said(folder)
        (folder / file).unlink()
        assert f"{file}: no such file" in said(folder)
    other = changed(exported, tmp_path / "d")
    (other / "model.onnx").write_bytes(b"no graph")
    about = json.loads((other / "nerc.json").read_text())
    about["sha256"]["model.onnx"] = onnx_engine.content_hash(other / "model.onnx")
    (other / "nerc.json").write_text(json.dumps(about))
    assert "cannot be loaded" in said(other)


def test_an_export_replaces_nothing_and_is_whole_or_absent(taught, exported, tmp_path, capsys):
    repo = ["--repo", taught]
    assert "is not empty" in refused(export, capsys, *repo, "--output", exported)
    assert "--output must be" in refused(export, capsys, *repo)
    flags = ["--revision", "absent", "--output", tmp_path / "new"]
    assert "no revision absent" in refused(export, capsys, *repo, *flags)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_one_line_names_it(taught, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = refused(export, capsys, "--repo", taught, "--output", tmp_path / "new")
    assert "needs the library onnx; pip install onnx onnxruntime" in said
    said = refused(predict, capsys, "--engine", "onnx", "--revision", exported)
    assert "needs the library onnxruntime; pip install onnx onnxruntime" in said


# ------------------------------------------------------------ the folder without nerc


def readme_code(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert sum(line != "" for line in code.splitlines()) <= 30
    return code


def readme_tags(python: str, folder: Path, texts: list[str]) -> list[list[str]]:
    """The tags that the README's code gives, where it runs isolated from this folder."""
    given = {"input": "\n".join(texts), "capture_output": True, "encoding": "utf-8"}
    environment = {**os.environ, "PYTHONUTF8": "1"}
    command = [python, "-I", "-X", "utf8", "-c", readme_code(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, **given)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [[tag for _, tag in eval(line)] for line in lines]  # noqa: S307


def check_readme(python: str, folder: Path, corpus: Path, model, tokenizer) -> None:
    texts = [" ".join(sentence.words) for sentence in sources.load(str(corpus), "train")]
    texts = [text for text in texts if len(tokenizer(text).input_ids) <= 60]  # windows have 64
    texts += ["", "Paris", "\u2063 \x07 東京 [SEP]", "x" * 500]
    chunk = [Text.of_words(text.split()) for text in texts]
    wanted = [tags for _, tags, _ in next(pipeline.tag_texts(model, tokenizer, [chunk]))]
    assert sum(tag != "O" for tags in wanted for tag in tags) > 20
    assert readme_tags(python, folder, texts) == wanted
    with pytest.raises(AssertionError, match="longer than a window"):
        readme_tags(python, folder, ["Paris " * 65])


def test_the_code_of_the_readme_tags_as_nerc_does(folder, taught, exported):
    model, tokenizer = model_files.load_revision(taught / "model_primary")
    check_readme(sys.executable, exported, folder, model, tokenizer)


def test_the_code_of_the_readme_reads_shapes_of_words(folder, taught, tmp_path):
    model, tokenizer = model_files.load_revision(taught / "model_primary")
    torch.manual_seed(0)
    model.read_word_shapes(len(SHAPES))
    model.word_shapes.weight.data.mul_(40)
    onnx_engine.export(tmp_path, model, tokenizer, "with_shapes", int8=False)
    check_readme(sys.executable, tmp_path, folder, model, tokenizer)


@pytest.mark.slow
def test_the_folder_needs_only_onnxruntime_tokenizers_and_numpy(folder, taught, exported, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "onnxruntime", "tokenizers", "numpy"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"packages cannot be installed: {done.stderr.strip()[-200:]}")
    model, tokenizer = model_files.load_revision(taught / "model_primary")
    check_readme(python, exported, folder, model, tokenizer)
    code = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('torch', 'nerc'))))"
    assert subprocess.run([python, "-I", "-c", code], cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_the_whole_test_split_and_1000_odd_texts_have_the_same_answers(
    taught, exported, conll2003, tmp_path
):
    real = [" ".join(s.words) for s in sources.load(str(conll2003), "test")]
    model, tokenizer = model_files.load_revision(taught / "model_primary")
    tagger, pieces = onnx_engine.load(exported)
    texts = [*map(Text.of, [*real, *odd_texts(1000).splitlines()])]
    chunks = [texts[i : i + 1000] for i in range(0, len(texts), 1000)]
    by_torch, by_onnx = (
        [found for chunk in pipeline.tag_texts(m, t, chunks) for found in chunk]
        for m, t in ((model, tokenizer), (tagger, pieces))
    )
    assert len(by_torch) == len(real) + 1000
    assert [tags for _, tags, _ in by_onnx] == [tags for _, tags, _ in by_torch]
    found, wanted = ([{"entities": e} for _, _, e in rows] for rows in (by_onnx, by_torch))
    assert sum(len(answer["entities"]) for answer in wanted) > 1000
    assert same_answers(found, wanted)
