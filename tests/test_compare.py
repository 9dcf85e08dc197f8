"""evaluate.py on several revisions: intervals, differences, errors, plots, the page."""

import io
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from conftest import files, refused, small, write_conll
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import evaluate
import train
from nerc.data import corpus, sources, synthetic, tags
from nerc.errors import visible
from nerc.evaluation import bootstrap, error_analysis, metrics, page, plots, tables
from nerc.evaluation.evaluator import Comparison, EvaluatedRevision, Evaluation


@pytest.fixture(scope="module")
def store(folder, encoder, tmp_path_factory):
    """Two revisions that differ in the seed alone, and one that saw half of the sentences."""
    repo = tmp_path_factory.mktemp("comparison") / "models"
    flags = [*small(folder, encoder), "--epochs", "6", "--repo", str(repo)]
    train.main([*flags, "--revision", "one"])
    train.main([*flags, "--revision", "two", "--seed", "1"])
    train.main([*flags, "--revision", "half", "--expert", "50%"])
    return repo


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    """The folder of what evaluate.py writes about all three."""
    out = tmp_path_factory.mktemp("written")
    flags = ["--repo", store, "--split", "test", "--revision", "one", "two", "half"]
    flags += ["--json", out / "r.json", "--html", out / "p.html", "--plots", out / "plots"]
    evaluate.main([str(flag) for flag in flags])
    return out


def test_the_json_has_the_reports_of_the_revisions(written, store):
    reports = json.loads((written / "r.json").read_text())
    for name in ("one", "two", "half"):
        metrics = json.loads((store / name / "metrics.json").read_text())["test"]
        assert reports[name]["test"].pop("types") == metrics.pop("types")
        assert reports[name]["test"] == pytest.approx(metrics)


def test_the_console_shows_intervals_seeds_and_details(store, capsys):
    flags = ["--repo", str(store), "--revision", "one", "two", "half", "--split", "test"]
    evaluate.main(flags)
    short = capsys.readouterr().out
    assert re.search(
        r"^mean over seeds \(one, two\): F1 0\.\d{5} ± 0\.\d{5}, accuracy", short, re.M
    )
    assert re.search(
        r"^two: F1 .* to .*; difference from one [+-]0\.\d{5}, .*, p [01]\.\d{3}$", short, re.M
    )
    assert short.count("| Revision") == 1
    evaluate.main([*flags, "--details"])
    out = capsys.readouterr().out
    for title in (
        "F1 by type",
        "Errors by kind",
        "F1 by slice",
        "Most frequent errors, half",
        "Confidences of the predicted entities",
    ):
        assert title in out
    assert "entity in training" in out


def test_the_page_has_all_sentences_and_kinds_of_errors(folder, written):
    text = (written / "p.html").read_text()
    gold = sources.load(str(folder), "test")
    total = sum(len(tags.entities(s.tags)) for s in gold)
    assert text.count("<script") == 2 and len(text) < 2_000_000
    for kind in ("wrong type", "spurious"):
        assert kind in text
    assert total == 33


def test_each_plot_is_one_png(written):
    names = {"f1", "reliability", "learning", "confusion_one", "confusion_two", "confusion_half"}
    assert files(written / "plots") == {f"{name}.png" for name in names}
    assert all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for p in (written / "plots").iterdir())


def test_confidences_on_the_page_are_those_of_the_entities(store, folder):
    gold = sources.load(str(folder), "test")
    predicted = [["B-PER", *["O"] * (len(s.words) - 1)] for s in gold]
    raw = np.linspace(0.1, 0.9, len(gold))
    right = np.array([tags.Entity("PER", 0, 1) in tags.entities(s.tags) for s in gold])
    word_tags = tags.inventory(tags.CONLL_TYPES)[:9]
    rows = [np.full((len(s.words), 9), np.log(1 / 9), dtype=np.float32) for s in gold]
    scores = metrics.report(gold, rows, predicted, word_tags)
    revision = EvaluatedRevision("x", {}, gold, Evaluation(scores, predicted, raw, right), None)
    shown = page.page_sentences(Comparison([revision]))
    assert [s["predicted"][0][0][3] for s in shown] == [round(c, 3) for c in raw.tolist()]
    assert [s["predicted"][0][0][4] == "correct" for s in shown] == right.tolist()
    missed = sum(len(s["missed"][0]) for s in shown)
    assert missed == revision.errors.kinds["missed"]


def compared(types: list[str], num_documents: int = 40, calibrated=(False,) * 3) -> Comparison:
    """Compare simulated revisions one, two, three on a corpus with an entity of each type."""
    rng = np.random.default_rng(0)
    labels = tuple(tag for type_ in types for tag in (f"B-{type_}", "O"))
    gold = corpus.Corpus.of(
        corpus.Sentence(("word",) * len(labels), labels, "", document)
        for document in range(num_documents)
        for _ in range(2)
    )
    word_tags = tags.inventory(types)
    rows = [np.full((len(labels), len(word_tags)), -2.0, dtype=np.float32) for _ in gold]
    revisions = []
    for name, is_calibrated in zip(("one", "two", "three"), calibrated, strict=True):
        predicted = [
            [f"B-{rng.choice(types)}" if tag != "O" and rng.random() < 0.2 else tag for tag in s]
            for s in [labels] * len(gold)
        ]
        right = np.array(
            [p == g for row in predicted for p, g in zip(row, labels, strict=True) if p != "O"]
        )
        raw = rng.random(len(right))
        scores = metrics.report(gold, rows, predicted, word_tags)
        evaluation = Evaluation(scores, predicted, raw, right)
        calibration = [1.0, 0.0] if is_calibrated else None
        revisions.append(EvaluatedRevision(name, {}, gold, evaluation, calibration))
    return Comparison(revisions)


def page_data(comparison: Comparison) -> dict:
    """The data in the page of a comparison."""
    document = page.html_page(comparison, page.comparison_plots(comparison), "test")
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', document)
    return json.loads(text)


SHORT = ["PER", "ORG", "LOC", "MISC"]
LONG = [f"{letter}RGANISATION_OR_GROUP" for letter in "ABCDEFGHIJKLMNOPQR"]


@pytest.mark.parametrize("types", [SHORT, LONG], ids=["4 short types", "18 long types"])
@pytest.mark.parametrize("plot", ["confusion", "f1", "bars"])
def test_labels_of_a_plot_do_not_overlap(monkeypatch, types, plot):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda s, *a, **k: (save(s, *a, **k), drawn.append(s)))
    if plot == "confusion":
        counts = dict.fromkeys(
            itertools.product([*types, error_analysis.NOTHING], repeat=2), 99_999
        )
        plots.confusion_plot(counts, types)
    elif plot == "f1":
        plots.f1_by_type(compared(types, 2).intervals)
    else:
        groups = [bootstrap.ALL_TYPES, *types]
        plots.bar_plot(dict.fromkeys(["P", "R", "F1"], [0.3] * len(groups)), groups)
    figure = drawn[-1]
    (axes,) = figure.axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts):
        boxes = [label.get_window_extent() for label in labels]
        for a, b in itertools.combinations(boxes, 2):
            assert not a.overlaps(b)
        for box in boxes:  # inside the figure
            assert box.x0 >= 0 and box.y0 >= 0
            assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    x, y = axes.bbox.width / figure.dpi, axes.bbox.height / figure.dpi
    assert x > 0.4 * len(types) and y > 2.4  # the labels leave room for the plot


def test_tables_of_six_types_need_no_scrolling(chromium, tmp_path):
    comparison = compared(["PERSON", "ORGANISATION", "LOCATION", "EVENT", "PRODUCT", "LANGUAGE"])
    path = tmp_path / "page.html"
    path.write_text(page.html_page(comparison, {}, "validation"))
    chromium.get("about:blank")
    chromium.get(path.as_uri())
    widths = chromium.execute_script(
        "byId('others').open = true; return [...document.querySelectorAll('.table')]"
        ".map((e) => [e.scrollWidth - e.clientWidth, e.textContent.slice(0, 30)])"
    )
    assert len(widths) > 5 and [title for over, title in widths if over] == []


def test_the_page_has_each_interval_once():
    shown = page_data(compared(SHORT))
    cells = [
        cell
        for table in (*shown["tables"], *shown["others"])
        for row in table["rows"]
        for cell in row
        if re.search(r"\d to [+-]?\d", cell)
    ]
    # F1 of three revisions and two differences; for all entities and for each type.
    assert len(cells) == (3 + 2) * (1 + len(SHORT))
    for table in (*shown["tables"], *shown["others"]):
        assert len(set(table["rows"][0])) == len(table["rows"][0])  # names of columns are unique


def test_tables_that_count_entities_say_so():
    shown = page_data(compared(SHORT))
    titles = [table["title"] for table in shown["others"]]
    for start in ("Errors by kind", "Gold and predicted types, one"):
        (title,) = (title for title in titles if title.startswith(start))
        assert title.endswith("(numbers of entities)")


def test_the_page_says_whose_confidences_are_calibrated():
    for calibrated, expected in (
        ([True, True, True], "calibrated."),
        ([True, False, False], "calibrated, except those of two, three."),
        ([False, False, False], "not calibrated."),
    ):
        note = page_data(compared(SHORT, calibrated=calibrated))["note"]
        assert note.endswith(f". Confidences are {expected}")


def test_revisions_with_different_types_can_be_compared():
    gold = corpus.Corpus.of([corpus.Sentence(("Ann", "ran"), ("B-PER", "O"), "x", 0)])
    revisions = []
    for name, types in (("one", ["PER"]), ("two", ["PER", "DATE"])):
        word_tags = [tag for tag in tags.inventory(types) if tag not in tags.SPECIAL_TAGS]
        rows = [np.full((2, len(word_tags)), -2.0, dtype=np.float32)]
        scores = metrics.report(gold, rows, [["B-PER", "O"]], word_tags)
        evaluation = Evaluation(scores, [["B-PER", "O"]], np.array([0.5]), np.array([True]))
        revisions.append(EvaluatedRevision(name, {}, gold, evaluation, None))
    rows = tables.f1_by_type(Comparison(revisions))
    assert rows[1][:2] == ["PER", "1"] and rows[1][2].startswith("1.0000 (")
    assert rows[-1] == ["DATE", "0", "-", "-"]


# Sorted, as reports have them; most of them mean something where no type is meant.
ODD_TYPES = sorted(["all", "-", "A", "A-", "O", "X", "[CLS]", "None", "missed", "spurious"])
ODD_TYPES += sorted(["a|b", "a$b$", "$x$\\y", "micro", "x\x1b[2J", "\u00e9=1:2", "é" * 300])


def test_the_names_of_types_change_no_figure():
    """No name stands for all types or for none, and seqeval joins no two types."""
    plain = [f"T{i:02}" for i in range(len(ODD_TYPES))]

    def figures(types: list[str]) -> list:
        comparison = compared(sorted(types))
        found = [list(comparison.supports.values())]
        for report in comparison.reports.values():
            found.append({**report.to_json(), "types": list(report.to_json()["types"].values())})
        for by_type in (*comparison.intervals.values(), *comparison.differences.values()):
            found.append(list(by_type.values()))
        rows = tables.differences(comparison, [bootstrap.ALL])
        found += [rows, tables.figures(comparison, "test"), tables.confidences(comparison)]
        by_type = [*tables.f1_by_type(comparison)]
        by_type += tables.differences(comparison, comparison.types)
        for revision in comparison.revisions:
            counts = revision.errors.confusion
            by_type += error_analysis.confusion_table(counts, comparison.types, "x")[1:]
        return found + [row[1:] for row in by_type]

    assert figures(ODD_TYPES) == figures(plain)


def test_a_plot_of_many_types_has_a_largest_size(monkeypatch):
    assert plots._MOST_DOTS == 8000
    monkeypatch.setattr(plots, "_MOST_DOTS", 2000)  # a larger image takes long
    types = [f"type{i}" for i in range(40)]
    image = plots.confusion_plot(Counter({(t, t): 1 for t in types}), types)
    width, height = Image.open(io.BytesIO(image)).size
    assert 1900 < max(width, height) <= 2001


@pytest.mark.parametrize(
    "flags", ["--html {0} --json {0}", "--json a --html ./a", "--json a --plots a"]
)
def test_two_outputs_have_two_places(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    flags = flags.format(tmp_path / "x").split()
    message = refused(evaluate, capsys, "--revision", "m", *flags)
    assert "must be another place than the other outputs" in message


def test_odd_names_are_shown_in_plots_as_they_are(monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda s, *a, **k: (save(s, *a, **k), drawn.append(s)))
    types = [*ODD_TYPES, "_x"]
    plots.confusion_plot(dict.fromkeys(itertools.product(types, repeat=2), 1), types)
    (axes,) = drawn[-1].axes
    labels = [label.get_text().strip() for label in axes.get_yticklabels()]
    shown = [visible(name) if len(name) < 60 else f"{name[:56]} ..." for name in types]
    assert labels == [*shown, "spurious"] and drawn[-1].get_figwidth() < 20
    for plot in (
        lambda names: plots.bar_plot(dict.fromkeys(names, [0.5]), ["all types"]),
        lambda names: plots.reliability(dict.fromkeys(names, (np.ones(0), np.ones(0)))),
        lambda names: plots.learning_curves(
            dict.fromkeys(names, [{"number": 1, "validation_f1": 0.5, "validation_loss": 1.0}])
        ),
        lambda names: plots.curve_bands({"x": dict.fromkeys(names, [(1, 0.5, 0.1)])}, {}, "y"),
        lambda names: plots.length_plot(dict.fromkeys(names, [3])),
    ):
        plot(["_one", "$a$", "b\x07"])
        (legend,) = drawn[-1].legends or [drawn[-1].axes[0].get_legend()]
        texts = [text.get_text().partition(",")[0].strip() for text in legend.get_texts()]
        assert texts == ["_one", "$a$", r"b\x07"]


def test_documents_are_numbered_from_1_where_there_are_any():
    for num_documents, expected in ((3, [1, 1, 2, 2, 3, 3]), (1, [None, None])):
        shown = page.page_sentences(compared(SHORT, num_documents))
        assert [sentence["document"] for sentence in shown] == expected


def test_types_of_another_corpus_are_mapped_and_counted(store, folder, tmp_path, capsys):
    renamed = {"PER": "PERSON", "MISC": "DATE"}

    def other(labels) -> list[str]:
        return [t[:2] + renamed.get(t[2:], t[2:]) if t != "O" else t for t in labels]

    rows = [(words, other(labels), d) for words, labels, d in synthetic.generate("test", 19)]
    write_conll(tmp_path / "test.txt", rows)
    flags = ["--repo", store, "--revision", "one", "--split", "test", "--corpus", tmp_path]
    assert "--map" in refused(evaluate, capsys, *flags)
    evaluate.main([str(f) for f in (*flags, "--map", "PERSON=PER", "DATE=O")])
    out = capsys.readouterr().out
    assert (
        "one: the corpus has no MISC, so every such entity that it predicts counts as spurious"
        in out
    )
    assert re.search(r"of its entities, \d+ DATE count as O; \d+ PERSON count as PER", out)
    evaluate.main([str(f) for f in (*flags[:-2], "--map", "MISC=O")])
    assert "have changed" not in capsys.readouterr().out
    gold = [tags.entities(labels) for _, labels, _ in rows]
    kept = sum(e.type != "DATE" for own in gold for e in own)
    assert f"test: {kept} entities in 19 sentences" in out
    said = refused(evaluate, capsys, *flags, "--map", "FACILITY=LOC")
    assert "no entity of" in said and "FACILITY" in said
    assert "pairs of types" in refused(evaluate, capsys, *flags, "--map", "PERSON")
    assert "one pair for each type" in refused(evaluate, capsys, *flags, "--map", "A=PER", "A=LOC")
    same = ("--json", tmp_path / "x", "--html", tmp_path / "x")
    assert "another place than the other outputs" in refused(evaluate, capsys, *flags, *same)


def test_a_page_needs_revisions_of_the_same_sentences(store, folder, encoder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for split, size in {"train": 30, "validation": 9, "test": 9}.items():
        write_conll(other / sources.FILES[split], synthetic.generate(split, size))
    flags = [*small(other, encoder), "--repo", str(store), "--revision", "elsewhere"]
    train.main(flags)
    flags = ["--repo", store, "--revision", "one", "elsewhere", "--html", tmp_path / "p.html"]
    assert "give --corpus" in refused(evaluate, capsys, *flags)
    assert not (tmp_path / "p.html").exists()


def test_tensorboard_has_settings_and_scores(store):
    events = EventAccumulator(str(store / "one/logs")).Reload()
    metrics = json.loads((store / "one/metrics.json").read_text())
    (final,) = events.Scalars("with_kept_weights/test_f1")
    assert final.value == pytest.approx(metrics["test"]["f1"])
    about = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(about).session_start_info.hparams
    assert settings["recipe"].string_value == "strong" and settings["epochs"].number_value == 6


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
        ("timeseries", ["train3cards", "validation", "with_kept_weights", "one/logs"]),
        ("hparams", ["recipe", "head_lr", "with_kept_weights/test_f1", "one/logs"]),
    ],
)
def test_tensorboard_shows_a_run_in_a_browser(chromium, tensorboard, tab, wanted):
    chromium.get("about:blank")  # else only the hash would change
    chromium.get(f"{tensorboard}/#{tab}")
    deadline = time.monotonic() + 60
    while missing := [text for text in wanted if text not in everything(chromium)]:
        assert time.monotonic() < deadline, f"TensorBoard does not show {missing}"
        time.sleep(0.5)


def test_the_page_of_real_revisions_opens_in_a_browser(chromium, written):
    chromium.get("about:blank")
    chromium.get_log("browser")  # empty it
    chromium.get((written / "p.html").as_uri())
    assert "19of19sentences" in everything(chromium)
    assert [e for e in chromium.get_log("browser") if e["level"] != "INFO"] == []


def test_intervals_come_from_resampled_documents(store, folder, capsys):
    evaluate.main(["--repo", str(store), "--revision", "one", "--split", "test"])
    documents = len({s.document for s in sources.load(str(folder), "test")})
    out = capsys.readouterr().out
    assert f"{bootstrap.NUM_DRAWS:,} bootstrap resamples of {documents} documents (too few" in out
