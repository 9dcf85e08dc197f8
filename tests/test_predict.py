"""Entities in raw text: python -m nerc predict on files and pipes, model.predict, pipelines."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import transformers
from conftest import files, refused
from transformers.pipelines.token_classification import AggregationStrategy

from nerc import NERSmall
from nerc.commands import predict
from nerc.data import conll, sources, synthetic, tags
from nerc.data import texts as read_texts
from nerc.data.corpus import Corpus, Sentence
from nerc.data.sentences import split
from nerc.data.words import words
from nerc.errors import InputError
from nerc.evaluation import evaluator
from nerc.files import MOST_LINE, bounded_lines
from nerc.model import calibration, encoding, inference
from nerc.model.pipeline import NERPipeline
from nerc.store import model_files

ROOT = Path(__file__).parents[1]
ODD = "Zoe\u0308  visited\tParis \U0001f1eb\U0001f1f7, in the U.S. -- \U0001f469\u200d\U0001f467!"


def command(store, *flags) -> list[str]:
    found = [sys.executable, "-m", "nerc", "predict", "--repo", str(store), "--num-threads", "1"]
    return [*found, *map(str, flags)]


def run(store, text: str | bytes, *flags) -> subprocess.CompletedProcess:
    text = text.encode() if isinstance(text, str) else text
    return subprocess.run(command(store, *flags), cwd=ROOT, input=text, capture_output=True)


def answer(tmp_path, store, text: str | bytes, *flags) -> tuple[str, int]:
    """What the command, in this process, writes of a file with text; its exit code."""
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    where = ["--repo", store, "--input", source, "--output", target, "--num-threads", 1]
    try:
        predict.main([str(flag) for flag in (*where, *flags)])
    except SystemExit as stop:
        return target.read_text() if target.exists() else "", stop.code
    return target.read_text(), 0


def rows(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def in_process(store, texts: list[str]) -> list[list[tags.Entity]]:
    """The entities in texts that are cut into words already, without the code for raw text."""
    model, tokenizer = model_files.load_revision(store / "model_primary")
    cut = [tuple(t[a:b] for a, b in words(t)) for t in texts]
    corpus = Corpus.of(Sentence(c, None, "", 0) for c in cut)
    found = inference.predict(model, encoding.encode_for(model, tokenizer, corpus))
    return [tags.entities(t) for t in inference.decode(found, model.config.word_tags)]


@pytest.fixture(scope="module")
def store(taught) -> Path:
    return taught


@pytest.fixture(scope="module")
def texts(folder) -> list[str]:
    return [" ".join(s.words) for s in sources.load(str(folder), "test")] + [ODD]


def test_every_line_of_text_gets_its_entities_in_order(store, texts):
    done = run(store, "\n".join([texts[0], "", *texts[1:]]))
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    found = rows(done.stdout.decode())
    assert [row["text"] for row in found] == [texts[0], "", *texts[1:]]
    assert found.pop(1)["entities"] == []
    for row, text, wanted in zip(found, texts, in_process(store, texts), strict=True):
        spans = words(text)
        assert [(e["type"], *e["words"]) for e in row["entities"]] == [tuple(e) for e in wanted]
        for entity in row["entities"]:
            first, last = entity["words"]
            assert (entity["start"], entity["end"]) == (spans[first][0], spans[last - 1][1])
            assert entity["text"] == text[entity["start"] : entity["end"]]
            assert 0 < entity["confidence"] <= 1
    assert sum(len(row["entities"]) for row in found) > 10


def test_json_and_conll_go_in_and_conll_comes_out(store, texts, folder, tmp_path):
    lines = "\n".join(
        json.dumps({"text": t} if i % 2 else {"words": t.split()}) for i, t in enumerate(texts[:-1])
    )
    from_json, code = answer(tmp_path, store, lines, "--format", "json", "--to", "conll")
    assert code == 0
    columns = (folder / "test.txt").read_bytes()
    assert answer(tmp_path, store, columns, "--format", "conll", "--to", "conll") == (from_json, 0)
    again = conll.read_conll(tmp_path / "out.txt")
    wanted = in_process(store, texts[:-1])
    assert [tags.entities(s.tags) for s in again] == wanted
    assert [s.words for s in again] == [s.words for s in sources.load(str(folder), "test")]


def test_a_bad_line_is_named_and_stops_no_other(store, tmp_path, capsys):
    lines = ['{"text": "in Paris"}', "{", "[1]", '{"words": ["a b"]}', '{"words": ["said", "it"]}']
    text = "\n".join(lines).encode() + b'\n{"text": "\xff"}\n{"text": "a\\ud83d"}\n{"text": "no"}'
    out, code = answer(tmp_path, store, text, "--format", "json")
    assert code == 2
    assert ["error" in row for row in rows(out)] == [
        False,
        True,
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    said = capsys.readouterr().err.splitlines()
    for number, line in zip((2, 3, 4, 6, 7), said[:5], strict=True):
        assert f"in.txt:{number}: " in line
    assert "is not UTF-8" in said[3] and "half a surrogate pair" in said[4]
    assert "5 inputs could not be read" in said[5] and len(said) == 6


def test_an_input_is_not_overwritten(store, tmp_path, capsys):
    text = tmp_path / "notes.txt"
    text.write_text("in Paris\n")
    flags = ("--repo", store, "--input", text, "--output", tmp_path / "." / "notes.txt")
    assert "is an input, too; give another file" in refused(predict, capsys, *flags)
    assert text.read_text() == "in Paris\n"


def test_strict_ends_at_the_first_bad_line_and_leaves_no_file(store, tmp_path, capsys):
    out, code = answer(tmp_path, store, '{"text": "in Paris"}\n{\n', "--format", "json", "--strict")
    said = capsys.readouterr().err
    assert (out, code) == ("", 2) and said.count("\n") == 1 and "in.txt:2: is not JSON" in said
    assert files(tmp_path) == {"in.txt"}


def test_no_line_of_json_causes_a_traceback(store, tmp_path, capsys):
    lines = ['{"text": "in Paris", "n": ' + "1" * 5000 + "}", "[" * 100_000, '{"text": "in Rome"}']
    out, code = answer(tmp_path, store, "\n".join(lines), "--format", "json")
    assert code == 2 and ["error" in row for row in rows(out)] == [True, True, False]
    assert capsys.readouterr().err.count("is not JSON") == 2


def test_other_fields_of_a_json_line_stay(store, tmp_path):
    text = '{"id": 7, "text": "in Paris"}\n{"words": ["in", "Paris"], "from": "x"}'
    out, _ = answer(tmp_path, store, text, "--format", "json")
    one, two = rows(out)
    assert one["id"] == 7 and two["from"] == "x" and two["words"] == ["in", "Paris"]
    assert one["text"] == two["text"] and one["entities"] == two["entities"]


def test_an_object_that_cannot_be_read_keeps_its_other_fields(store, tmp_path):
    lines = ['{"id": 1, "text": 5, "words": [""]}', '{"id": 2}', '{"id": 1e999, "text": "in"}']
    out, code = answer(tmp_path, store, "\n".join(lines), "--format", "json")
    one, two, three = rows(out)
    assert code == 2 and one.keys() == {"id", "words", "error"} and one["id"] == 1
    assert two.keys() == {"id", "error"} and two["id"] == 2
    assert three.keys() == {"error"} and "in.txt:3: is not JSON: Out of range" in three["error"]


def test_a_word_that_would_begin_a_document_is_not_written_as_one(store, tmp_path, capsys):
    lines = [{"words": ["-DOCSTART-", "Ann"]}, {"words": ["Ann"]}]
    flags = ("--format", "json", "--to", "conll")
    out, code = answer(tmp_path, store, "\n".join(map(json.dumps, lines)), *flags)
    assert code == 2 and "-DOCSTART-" not in out and out.split()[0] == "Ann"
    assert "in.txt:1: has the word -DOCSTART-" in capsys.readouterr().err
    assert answer(tmp_path, store, json.dumps(lines[0]), "--format", "json")[1] == 0


def test_a_field_that_gives_way_to_the_answers_is_named_once(store, tmp_path, capsys):
    lines = [{"text": "in Paris"}, {"text": "in Paris", "entities": [1], "id": 3}]
    lines += [{"text": "no", "error": "x", "entities": 2}, {"error": "y"}]
    text = "\n".join(map(json.dumps, lines))
    out, code = answer(tmp_path, store, text, "--format", "json")
    said = capsys.readouterr().err
    assert code == 2 and said.count("has a field") == 2
    assert "in.txt:2: has a field entities of its own" in said
    assert "in.txt:3: has a field error of its own" in said
    plain, with_entities, with_error, bad = rows(out)
    assert with_entities == plain | {"id": 3}
    assert with_error.keys() == {"text", "entities"} and with_error["entities"] != 2
    assert bad.keys() == {"error"} and "in.txt:4: wanted" in bad["error"]
    answer(tmp_path, store, text, "--format", "json", "--to", "conll")
    assert "has a field" not in capsys.readouterr().err


def test_a_line_without_an_end_is_one_unreadable_input(store, tmp_path, capsys):
    text = b"in Paris\n" + b"x" * (MOST_LINE + 5) + b"\nin Paris\n"
    out, code = answer(tmp_path, store, text)
    assert code == 2 and [row.get("text") for row in rows(out)] == ["in Paris", None, "in Paris"]
    assert "in.txt:2: has more than 16,777,216 bytes" in capsys.readouterr().err
    out, code = answer(tmp_path, store, text.replace(b" ", b"\n"), "--format", "conll")
    assert code == 2 and [row.keys() for row in rows(out)] == [{"error"}]
    capsys.readouterr()
    sparse, folder = tmp_path / "sparse", tmp_path / "folder"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    folder.mkdir()
    flags = ["--repo", store, "--num-threads", 1, "--input"]
    assert f"{sparse}:1: has no end within" in refused(predict, capsys, *flags, sparse)
    for path, fault in ((folder, "is a folder"), ("/dev/zero", "is a device"), ("none", "no such")):
        assert f"{path}: {fault}" in refused(predict, capsys, *flags, path)
    assert "cannot be read" in refused(predict, capsys, *flags, "x" * 300)


def test_a_sentence_with_an_unreadable_word_is_left_out(store, tmp_path, capsys):
    text = b"in\nPar\xffis\nand\n\nin\nRome\n"
    out, code = answer(tmp_path, store, text, "--format", "conll")
    assert code == 2 and ["error" in row for row in rows(out)] == [True, False]
    said = capsys.readouterr().err
    assert "in.txt:2: is not UTF-8, so its sentence, from" in said and "in.txt:1" in said


def test_words_may_hold_blanks_where_tabs_separate_columns(store, tmp_path):
    text = "-DOCSTART-\tO\n\nNew York\tx\n10\u00a0000 y\n"
    out, code = answer(tmp_path, store, text, "--format", "conll", "--to", "conll")
    assert code == 0
    assert [line.rsplit(maxsplit=1)[0] for line in out.splitlines() if line] == [
        *("New York", "10\u00a0000")
    ]
    assert [s.words for s in conll.read_conll(tmp_path / "out.txt")] == [
        ("New York", "10\u00a0000")
    ]


def test_output_goes_through_a_link_and_input_may_be_a_pipe(store, tmp_path, capsys):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("in Paris\n",))
    writer.start()
    where = ["--repo", store, "--input", tmp_path / "pipe", "--output", tmp_path / "link"]
    predict.main([*map(str, where), "--num-threads", "1"])
    writer.join()
    assert (tmp_path / "link").is_symlink()
    assert rows((tmp_path / "real").read_text())[0]["text"] == "in Paris"
    assert files(tmp_path) == {"real", "link"}
    said = refused(predict, capsys, "--repo", store, "--output", "/dev/stdout")
    assert "is a device, wanted a file" in said


def test_words_that_the_tokenizer_does_not_know_are_counted(store, tmp_path, capsys):
    out, code = answer(tmp_path, store, '{"words": ["\\u0007"]}\n{"words": []}', "--format", "json")
    assert code == 0 and len(rows(out)) == 2
    assert "1 words have no piece that the tokenizer knows" in capsys.readouterr().err


def wrapped(text: str, width: int) -> str:
    """The text in lines of some width, with long words parted between lower-case letters."""
    lines, line = [], ""
    for word in text.split():
        if len(line) > width:
            hyphen = len(word) > 5 and word.isalpha() and word[1:].islower()
            lines.append(f"{line} {word[:3]}-" if hyphen else line)
            line, word = "", word[3:] if hyphen else word
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def test_paragraphs_give_the_entities_of_their_sentences_with_places_in_the_file(
    store, texts, tmp_path
):
    wanted = [text for text in texts[:-1] if [*split(text)] == [(0, len(text))]]
    assert len(wanted) > 10
    paragraphs = [wrapped(text, 20) for text in wanted]
    assert sum("-\n" in paragraph for paragraph in paragraphs) > 5
    content = "\ufeff" + "\n\n \U0001f600\n\n\n".join(paragraphs).replace("\n", "\r\n")
    out, code = answer(tmp_path, store, content, "--format", "paragraphs")
    found = [row for row in rows(out) if row["text"] != "\U0001f600"]
    plain, _ = answer(tmp_path, store, "\n".join(wanted))
    assert code == 0 and len(found) == len(wanted)
    given = content.removeprefix("\ufeff")
    for row, other in zip(found, rows(plain), strict=True):
        assert list(row) == ["file", "start", "end", "text", "entities"]
        assert row["file"] == str(tmp_path / "in.txt")
        assert given[row["start"] : row["end"]] == row["text"]
        for entity, same in zip(row["entities"], other["entities"], strict=True):
            assert given[entity["start"] : entity["end"]] == entity["text"]
            kept = ("type", "words", "confidence")
            assert [entity[name] for name in kept] == [same[name] for name in kept]
    assert any("-\r\n" in entity["text"] for row in found for entity in row["entities"])
    flags = ("--format", "paragraphs", "--to", "conll")
    columns, _ = answer(tmp_path, store, "\n\n".join(paragraphs), *flags)
    assert columns == answer(tmp_path, store, "\n".join(wanted), "--to", "conll")[0]


def test_a_paragraph_is_a_sentence_or_more_or_is_named(store, tmp_path, capsys):
    text = b"He left. She\nstayed.\n\nZo\xc3\xab. Par\xff\nis.\n\n" + b"a " * 2**24
    text = text.replace(b"a a " * 2**18, b"a a " * 2**18 + b"\n") + b"\n\nThey\n"
    out, code = answer(tmp_path, store, text, "--format", "paragraphs")
    given = text.decode(errors="replace")
    assert code == 2 and [row.get("text") for row in rows(out)] == [
        *("He left.", "She\nstayed.", None, None, "They")
    ]
    for row in rows(out):
        assert "error" in row or given[row["start"] : row["end"]] == row["text"]
    said = capsys.readouterr().err
    assert "in.txt:4: is not UTF-8, so its paragraph, from" in said and "in.txt:4 on, is" in said
    assert "is more than 16,777,216 characters after the last blank line" in said
    flags = ["--repo", store, "--format", "paragraphs", "--input", tmp_path / "in.txt"]
    (tmp_path / "in.txt").write_bytes(b"a " * 2**23 + b"a\n")
    assert "in.txt:1: has more than 16,777,216 bytes" in refused(predict, capsys, *flags)


def test_a_paragraph_is_read_no_further_than_its_blank_line():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb", buffering=0) as source:
        source.write(b"One\ntwo. Three.\n\nFour")  # and it stays open
        found = read_texts.of_paragraphs(bounded_lines(file, "pipe"), "pipe")
        assert [next(found).text for _ in range(2)] == ["One\ntwo.", "Three."]


def test_slow_input_is_answered_as_it_comes(store):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command(store), cwd=ROOT, **pipes) as process:
        for text in ("in Paris", "said Zoe", "no"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(30) == 0


def test_a_reader_that_goes_away_causes_no_traceback(store):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command(store), cwd=ROOT, **pipes)
    process.stdin.write(b"in Paris\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(b"in Paris\n")
    process.stdin.flush()  # and stays open: it is not the end of the input that ends the program
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stdin.close()
    process.stderr.close()


def test_a_signal_leaves_no_half_written_file(store, tmp_path):
    flags = command(store, "--output", tmp_path / "out.jsonl")
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(flags, cwd=ROOT, **pipes) as process:
        process.stdin.write(b"in Paris\n")
        process.stdin.flush()
        while not files(tmp_path):  # it waits for more input
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.wait(30) == 143 and b"interrupted by SIGTERM" in process.stderr.read()
    assert files(tmp_path) == set()


@pytest.mark.slow
def test_a_hundred_thousand_lines_take_no_more_memory_than_some_thousands(store, tmp_path, texts):
    def peak(num_lines: int) -> int:
        lines = tmp_path / "lines.txt"
        lines.write_text("".join(f"{texts[i % len(texts)]}\n" for i in range(num_lines)))
        flags = command(store, "--input", lines, "--output", tmp_path / "out.jsonl")
        process = subprocess.Popen(flags, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        with (tmp_path / "out.jsonl").open() as file:
            assert sum(1 for _ in file) == num_lines
        return used.ru_maxrss  # KiB

    some, many = peak(10_000), peak(100_000)
    print(f"peak memory: {some / 1024:.0f} MiB for 10,000 lines, {many / 1024:.0f} for 100,000")
    assert many < some + 100 * 1024


# ------------------------------------------------------------ from Python


def test_a_model_answers_as_the_command_does(store, texts, tmp_path):
    out, _ = answer(tmp_path, store, "\n".join(texts))
    found = [row["entities"] for row in rows(out)]
    model = NERSmall.from_pretrained(store, revision="model_primary")
    assert model.predict(texts) == found
    assert model.predict(texts[0]) == found[0] and model.predict([]) == []
    assert model.predict(["", texts[0]]) == [[], found[0]]
    model.train()
    assert model.predict(texts) == found and model.training
    for odd in ([None], [["in", "Paris"]], {1: 2}):
        with pytest.raises(TypeError, match="wanted texts, each a str"):
            model.predict(odd)
    assert NERPipeline(model=model)(texts[0])[0]["word"] == found[0][0]["text"]


def test_a_model_that_was_not_loaded_needs_a_tokenizer(model, tokenizer):
    new = NERSmall(model.config)
    with pytest.raises(InputError, match="set model.tokenizer"):
        new.predict("in Paris")
    new.tokenizer = tokenizer
    assert isinstance(new.predict("in Paris"), list)


def test_confidences_are_calibrated_on_validation(store, folder, texts):
    model = NERSmall.from_pretrained(store, revision="model_primary")
    judged = evaluator.evaluate(
        model,
        corpus := sources.load(str(folder), "validation"),
        encoding.encode_for(model, model.tokenizer, corpus),
    )
    assert model.config.calibration == pytest.approx(judged.fit(), rel=1e-3)
    found = [entity for text in model.predict(texts) for entity in text]
    learnt, model.config.calibration = model.config.calibration, None
    raw = [entity for text in model.predict(texts) for entity in text]
    wanted = calibration.calibrated(np.array([e["confidence"] for e in raw]), learnt)
    np.testing.assert_allclose([e["confidence"] for e in found], wanted, atol=2e-3)
    assert found != raw


def test_our_pipeline_finds_what_the_model_finds_and_the_stock_one_finds_less(store, encoder):
    """On 200 raw sentences; the stock pipeline takes every word piece for a word."""
    raw = [" ".join(words) for words, *_ in synthetic.generate("test", 199)] + [ODD]
    model = NERSmall.from_pretrained(store, revision="model_primary")
    wanted = model.predict(raw)
    folder = str(store / "model_primary")
    ours = transformers.pipeline("token-classification", model=folder, pipeline_class=NERPipeline)
    names = {"type": "entity_group", "confidence": "score", "text": "word"}
    same = [
        [{names.get(k, k): v for k, v in e.items() if k != "words"} for e in es] for es in wanted
    ]
    assert ours(raw) == same
    assert ours(raw[0]) == same[0] and ours([]) == []
    assert list(ours(text for text in raw)) == same

    stock = transformers.pipeline("token-classification", folder, aggregation_strategy="first")
    assert isinstance(stock.model, NERSmall)
    with pytest.raises(
        InputError, match="70[0-9] word pieces at once, and the encoder reads at most 64"
    ):
        stock("in " * 700)

    def by_stock(text: str) -> list[dict]:
        try:
            return stock(text)
        except InputError:  # longer than a window of this small encoder
            return []

    def found(answers) -> set[tuple]:
        keys = ("entity_group", "start", "end")
        return {(i, *(e[key] for key in keys)) for i, text in enumerate(answers) for e in text}

    one, two = found(same), found(map(by_stock, raw))
    agreement = 2 * len(one & two) / (len(one) + len(two))
    print(
        f"the stock pipeline agrees with ours by an F1 of {agreement:.3f} on {len(raw)} sentences"
    )
    assert 0 < agreement <= 1 and len(one) > 100


def test_our_pipeline_accepts_the_grouping_that_it_does_in_any_case(store, texts):
    folder = str(store / "model_primary")
    plain, grouped = (
        transformers.pipeline("token-classification", folder, pipeline_class=NERPipeline, **given)
        for given in ({}, {"aggregation_strategy": "simple"})
    )
    wanted = plain(texts)
    assert sum(map(len, wanted)) > 10
    assert grouped(texts) == plain(texts, aggregation_strategy="simple") == wanted
    assert plain(texts[0], aggregation_strategy=AggregationStrategy.SIMPLE) == wanted[0]
    for strategy in ("none", "first", "average", "max"):
        with pytest.raises(ValueError, match=f"not '{strategy}'.* always grouped into entities"):
            plain(texts[0], aggregation_strategy=strategy)
    with pytest.raises(ValueError, match="has no stride; leave it out"):
        plain(texts[0], stride=1)


def test_bad_flags_are_one_line(store, tmp_path, capsys):
    base = ("--repo", store)
    assert "no such file" in refused(predict, capsys, *base, "--input", tmp_path / "none")
    assert "no such folder" in refused(predict, capsys, *base, "--output", tmp_path / "a/b")
    assert "none" in refused(predict, capsys, *base, "--revision", "none")
    assert files(tmp_path) == set()
