"""evaluate.py on several revisions: intervals, differences, errors, plots, the page."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import files, refused, small, write_conll
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import evaluate
import train
from nerc import comparison, data, findings, sample, tags
from nerc.metrics import report
from nerc.prediction import Judged


@pytest.fixture(scope="module")
def store(folder, encoder, tmp_path_factory):
    """Two revisions that differ in the seed alone, and one that saw half of the sentences."""
    repo = tmp_path_factory.mktemp("findings") / "models"
    flags = [*small(folder, encoder), "--epochs", "6", "--repo", str(repo)]
    train.main([*flags, "--revision", "one"])
    train.main([*flags, "--revision", "two", "--seed", "1"])
    train.main([*flags, "--revision", "half", "--expert", "50%"])
    return repo


@pytest.fixture(scope="module")
def told(store, tmp_path_factory):
    """What evaluate.py wrote of all three."""
    out = tmp_path_factory.mktemp("told")
    flags = ["--repo", store, "--split", "test", "--revision", "one", "two", "half"]
    flags += ["--json", out / "r.json", "--html", out / "p.html", "--plots", out / "plots"]
    evaluate.main([str(flag) for flag in flags])
    return out


def test_the_json_is_that_of_the_revision(told, store):
    found = json.loads((told / "r.json").read_text())
    for name in ("one", "two", "half"):
        metrics = json.loads((store / name / "metrics.json").read_text())["test"]
        assert found[name]["test"].pop("types") == metrics.pop("types")
        assert found[name]["test"] == pytest.approx(metrics)


def test_the_console_tells_of_intervals_seeds_and_details(store, capsys):
    flags = ["--repo", str(store), "--revision", "one", "two", "half", "--split", "test"]
    evaluate.main(flags)
    short = capsys.readouterr().out
    assert re.search(r"^seeds one, two: F1 0\.\d{5} ± 0\.\d{5}, accuracy", short, re.MULTILINE)
    assert re.search(
        r"^two: F1 .* to .*; against one [+-]0\.\d{5}, .*, p [01]\.\d{3}$", short, re.M
    )
    assert short.count("| Revision") == 1
    evaluate.main([*flags, "--details"])
    out = capsys.readouterr().out
    for title in (
        "F1 by type",
        "Errors by kind",
        "F1 of parts",
        "Most frequent errors, half",
        "Confidences of the entities found",
    ):
        assert title in out
    assert "entity in training" in out


def test_errors_add_up_to_the_entities_of_the_file(store, folder, told):
    text = (told / "p.html").read_text()
    gold = data.load(str(folder), "test")
    total = sum(len(tags.entities(s.tags)) for s in gold)
    assert text.count("<script") == 2 and len(text) < 2_000_000
    for kind in ("wrong type", "spurious"):
        assert kind in text
    assert total == 33


def test_plots_are_pictures_light_and_dark(told):
    names = {"f1", "reliability", "learning", "confusion_one", "confusion_two", "confusion_half"}
    assert files(told / "plots") == {f"{n}{d}.png" for n in names for d in ("", "_dark")}
    assert all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for p in (told / "plots").iterdir())


def test_confidences_on_the_page_are_those_of_the_entities(store, folder):
    gold = data.load(str(folder), "test")
    predicted = [["B-PER", *["O"] * (len(s.words) - 1)] for s in gold]
    raw = np.linspace(0.1, 0.9, len(gold))
    right = np.array([tags.Entity("PER", 0, 1) in tags.entities(s.tags) for s in gold])
    word_tags = tags.inventory(tags.CONLL_TYPES)[:9]
    rows = [np.full((len(s.words), 9), np.log(1 / 9), dtype=np.float32) for s in gold]
    judged = {"x": Judged(report(gold, rows, predicted, word_tags), predicted, raw, right)}
    found = findings.find(gold, judged, {"x": None}, {})
    shown = findings.sentences(found)
    assert [s["found"][0][0][3] for s in shown] == [round(c, 3) for c in raw.tolist()]
    assert [s["found"][0][0][4] == "correct" for s in shown] == right.tolist()
    missed = sum(len(s["missed"][0]) for s in shown)
    assert missed == found.errors["x"].kinds["missed"]


def test_types_of_another_corpus_are_mapped_aloud(store, folder, tmp_path, capsys):
    renamed = {"PER": "PERSON", "MISC": "DATE"}

    def other(labels) -> list[str]:
        return [t[:2] + renamed.get(t[2:], t[2:]) if t != "O" else t for t in labels]

    rows = [(words, other(labels), d) for words, labels, d in sample.generate("test", 19)]
    write_conll(tmp_path / "test.txt", rows)
    flags = ["--repo", store, "--revision", "one", "--split", "test", "--corpus", tmp_path]
    assert "--map" in refused(evaluate, capsys, *flags)
    evaluate.main([str(f) for f in (*flags, "--map", "PERSON=PER", "DATE=O")])
    out = capsys.readouterr().out
    assert "one: the corpus has no MISC: all that is found of it is spurious" in out
    assert re.search(r"of its entities, \d+ DATE count as O; \d+ PERSON count as PER", out)
    evaluate.main([str(f) for f in (*flags[:-2], "--map", "MISC=O")])
    assert "have changed" not in capsys.readouterr().out
    gold = [tags.entities(labels) for _, labels, _ in rows]
    kept = sum(e.type != "DATE" for own in gold for e in own)
    assert f"test: {kept} entities in 19 sentences" in out
    said = refused(evaluate, capsys, *flags, "--map", "FACILITY=LOC")
    assert "no entity of" in said and "FACILITY" in said
    assert "pairs of types" in refused(evaluate, capsys, *flags, "--map", "PERSON")
    assert "of each type once" in refused(evaluate, capsys, *flags, "--map", "A=PER", "A=LOC")
    same = ("--json", tmp_path / "x", "--html", tmp_path / "x")
    assert "another file than --json" in refused(evaluate, capsys, *flags, *same)


def test_a_page_wants_the_same_sentences(store, folder, encoder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for split, size in {"train": 30, "validation": 9, "test": 9}.items():
        write_conll(other / data.FILES[split], sample.generate(split, size))
    flags = [*small(other, encoder), "--repo", str(store), "--revision", "elsewhere"]
    train.main(flags)
    flags = ["--repo", store, "--revision", "one", "elsewhere", "--html", tmp_path / "p.html"]
    assert "give --corpus" in refused(evaluate, capsys, *flags)
    assert not (tmp_path / "p.html").exists()


def test_tensorboard_has_settings_scores_and_samples(store):
    events = EventAccumulator(str(store / "one/logs"), {"tensors": 0})
    events.Reload()
    metrics = json.loads((store / "one/metrics.json").read_text())
    (final,) = events.Scalars("test/final_f1")
    assert final.value == pytest.approx(metrics["test"]["f1"])
    about = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(about).session_start_info.hparams
    assert settings["recipe"].string_value == "strong" and settings["epochs"].number_value == 6
    texts = events.Tensors("validation/predictions/text_summary")
    assert len(texts) == 6
    assert "| sentence" in texts[-1].tensor_proto.string_val[0].decode()


def everything(driver) -> str:
    """All text in a browser's window, without blanks."""
    return driver.execute_script("""
        const text = (node) => [...node.childNodes].map((child) =>
            child.nodeType === 3 ? child.textContent : ["SCRIPT", "STYLE"].includes(child.tagName)
            ? "" : text(child)).join(" ") + (node.shadowRoot ? text(node.shadowRoot) : "");
        return text(document.body).replace(/\\s+/g, "");
    """)


@pytest.fixture(scope="module")
def tensorboard(store):
    """The address of a TensorBoard that shows the store."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(store), "--port", "0"]
    command += ["--host", "127.0.0.1", "--load_fast=false"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while "http://" not in (line := server.stderr.readline()):
        assert server.poll() is None, "TensorBoard ended"
    yield re.search(r"http://[\d.:]+", line)[0]
    server.terminate()
    server.wait()
    server.stderr.close()


@pytest.mark.parametrize(
    "tab, wanted",
    [
        ("timeseries", ["test/final_f1", "train3cards", "validation", "one/logs"]),
        ("text", ["validation/predictions", "one/logs"]),
        ("hparams", ["recipe", "head_lr", "test/final_f1", "one/logs"]),
    ],
)
def test_tensorboard_shows_a_run_in_a_browser(chromium, tensorboard, tab, wanted):
    chromium.get("about:blank")  # else only the hash would change
    chromium.get(f"{tensorboard}/#{tab}")
    deadline = time.monotonic() + 60
    while missing := [text for text in wanted if text not in everything(chromium)]:
        assert time.monotonic() < deadline, f"TensorBoard does not show {missing}"
        time.sleep(0.5)


def test_the_page_of_real_revisions_opens_in_a_browser(chromium, told, folder):
    chromium.get("about:blank")
    chromium.get_log("browser")  # what others said there before
    chromium.get((told / "p.html").as_uri())
    assert "19of19sentences" in everything(chromium)
    assert [e for e in chromium.get_log("browser") if e["level"] != "INFO"] == []


def test_intervals_are_of_documents(store, folder, capsys):
    evaluate.main(["--repo", str(store), "--revision", "one", "--split", "test"])
    documents = len({s.document for s in data.load(str(folder), "test")})
    said = capsys.readouterr().out
    assert f"of {documents} documents, too few to be trusted, drawn anew" in said
    assert f"{comparison.NUM_DRAWS:,} times" in said
