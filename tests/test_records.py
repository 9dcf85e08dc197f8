"""Records of runs: which belong together, and the table of a store's results."""

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import refused
from safetensors.torch import load_file, save_file

import evaluate
from nerc import tables
from nerc.commands import results, revisions
from nerc.errors import InputError, visible
from nerc.store import records


def run(**config) -> dict:
    values = {
        "data": "gold",
        "recipe": "strong",
        "seed": 0,
        "corpus": "/a/conll",
        "encoder": "/a/b",
    }
    return {"config": values | config, "data": {}, "precision": "bf16"}


def test_runs_that_differ_only_in_the_seed_belong_together():
    runs = {
        "a": run(),
        "b": run(seed=1, num_threads=4, corpus="/elsewhere/conll", cuda_graphs=True),
        "c": run(lr=1e-3),
        "old": {},
        "older": {},
        "d": run(seed=2) | {"precision": "float32"},
    }
    assert records.by_configuration(runs) == [["a", "b"], ["c"], ["old"], ["older"], ["d"]]


def test_runs_on_other_sentences_form_their_own_groups():
    def of(train, test, **config):
        data = {split: {"sha256": sha} for split, sha in (("train", train), ("test", test))}
        return run(**config) | {"data": data}

    runs = {
        "a": of("t", "x"),
        "of another test": of("t", "y", seed=1),
        "of another train": of("u", "x", seed=1),
        "drawn": of("v", "x", expert="12%"),
        "drawn by seed 1": of("w", "x", expert="12%", seed=1),
    }
    assert records.by_configuration(runs) == [*([name] for name in [*runs][:3]), [*runs][3:]]


def test_spread_by_hand():
    assert tables.spread([2.0]) == "2.00"
    assert tables.spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert tables.spread([0.5, 0.7], 3) == "0.600 ± 0.141"


def test_settings_are_shown_as_flags_take_them():
    cells = [results._cell(v) for v in (None, [], ["form", "none"], 0.0009000000000000001, 32)]
    assert cells == ["-", "-", "form none", "0.0009", "32"]


@pytest.mark.parametrize("text", ["[]", "{", '{"test": {}}', '{"test": {"f1": "x", "loss": 1.0}}'])
def test_damaged_reports_are_refused(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match="metrics.json: is damaged"):
        records.read_metrics(tmp_path)


ACTIVE = {"round": 1, "strategy": "mnlp", "seed": 0, "start": None, "plan": {"add": "1%"}}
ACTIVE |= {"sentences": 1, "words": 2, "entities": 3}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"config": 1}, "config is 1, wanted an object"),
        ({"config": {"data": "golden"}}, 'config.data is "golden", wanted one of gold, llm, mixed'),
        ({"config": {"seed": "0"}}, 'config.seed is "0", wanted a whole number'),
        ({"config": {"corpus": ["a"]}}, r'config.corpus is \["a"\], wanted text'),
        ({"config": {"repair": "form"}}, 'config.repair is "form", wanted a list'),
        ({"config": {"lr": "fast"}}, 'config.lr is "fast", wanted a finite number'),
        ({"data": {"train": {"sentences": 3}}}, "has no data.train.sha256"),
        ({"data": {"train": {"sentences": "3", "sha256": "a"}}}, 'data.train.sentences is "3"'),
        ({"precision": 16}, "precision is 16, wanted text"),
        ({"epochs": [{"number": 1, "validation_f1": 0.5}]}, r"has no epochs\[0\].validation_loss"),
        ({"active": []}, r"active is \[\], wanted an object"),
        ({"active": ACTIVE | {"round": None}}, "active.round is null, wanted a whole number"),
        ({"active": ACTIVE | {"plan": {}}}, "has no active.plan.add"),
        ({"active": ACTIVE | {"words": 10**400}}, "active.words is 1000.*, wanted a whole number"),
    ],
)
def test_a_run_that_lacks_what_readers_want_is_refused(tmp_path, fields, fault):
    (tmp_path / "run.json").write_text(json.dumps(run() | {"active": ACTIVE}))
    assert records.read_run(tmp_path)["active"] == ACTIVE
    (tmp_path / "run.json").write_text(json.dumps(run() | fields))
    with pytest.raises(InputError, match=f"run.json: is damaged: {fault}"):
        records.read_run(tmp_path)


@pytest.mark.parametrize(
    "report", [[], {"f1": 1}, {"f1": None, "loss": 1}, {"f1": 1e999, "loss": 1}]
)
def test_reports_without_figures_are_refused(tmp_path, report):
    (tmp_path / "metrics.json").write_text(json.dumps({"test": report}))
    with pytest.raises(InputError, match=r"metrics.json: is damaged: .*test"):
        records.read_metrics(tmp_path)


def test_the_records_of_earlier_versions_are_read():
    for folder in (Path(__file__).parents[1] / "experiments/results").iterdir():
        assert all(records.read(folder))


def test_a_revision_that_is_not_there_has_no_empty_record(tmp_path):
    assert records.read(tmp_path) == ({}, {})
    with pytest.raises(InputError, match="no such folder"):
        records.read_run(tmp_path / "none")


def write(folder, config: dict, f1: float) -> None:
    folder.mkdir()
    scores = {"f1": f1, "loss": 1.0, "accuracy": 0.5, "precision": 0.25, "recall": f1 / 2}
    metrics = {split: scores for split in ("validation", "test")}
    (folder / "run.json").write_text(json.dumps(run(**config)))
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_the_table_of_a_store(tmp_path, capsys):
    write(tmp_path / "one", {"data": "llm", "lr": 1e-4}, 0.5)
    write(tmp_path / "two", {"lr": 1e-4}, 0.7)
    write(tmp_path / "three", {"lr": 1e-4, "seed": 1}, 0.8)
    write(tmp_path / "four", {"recipe": "paper", "lr": 1e-3}, 0.1)
    rows = results.results_table(results.read_groups(tmp_path)[0])
    # What the recipe decides, here the learning rate, has no column of its own.
    assert rows[0] == [
        *("--data", "--recipe", "seeds", "validation F1"),
        *("test precision", "test recall", "test F1", "test accuracy"),
    ]
    assert rows[1:] == [
        ["gold", "paper", "0", "10.00", "25.00", "5.00", "10.00", "50.00"],
        [
            *("gold", "strong", "0, 1", "75.00 ± 7.07"),
            *("25.00 ± 0.00", "37.50 ± 3.54", "75.00 ± 7.07", "50.00 ± 0.00"),
        ],
        ["llm", "strong", "0", "50.00", "25.00", "25.00", "50.00", "50.00"],
    ]
    write(tmp_path / "five", {"lr": 1e-3}, 0.2)
    rows = results.results_table(results.read_groups(tmp_path)[0])
    assert rows[0][2] == "--lr"
    results.main(["--repo", str(tmp_path)])
    assert capsys.readouterr().out == tables.markdown(rows) + "\n"


@pytest.fixture
def two_seeds(tmp_path):
    write(tmp_path / "one", {}, 0.7)
    write(tmp_path / "two", {"seed": 1}, 0.8)
    write(tmp_path / "three", {"data": "llm", "encoder": "50%_of_a#b&c"}, 0.5)
    return tmp_path


def test_results_as_csv_have_a_column_for_each_deviation(two_seeds, capsys):
    results.main(["--repo", str(two_seeds), "--format", "csv"])
    gold, llm = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (gold["--data"], gold["seeds"], llm["--encoder"]) == ("gold", "0, 1", "50%_of_a#b&c")
    assert (gold["test F1"], gold["test F1 deviation"]) == ("75.0000", "7.0711")
    assert (gold["test recall"], gold["test recall deviation"]) == ("37.5000", "3.5355")
    assert (llm["test F1"], llm["test F1 deviation"]) == ("50.0000", "")


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_text_of_records_cannot_steer_a_terminal_or_break_a_table(tmp_path, capsys, form):
    odd = '\x1b]0;x\x07,a\nb\rc\x9b2J\u202e|"d'
    write(tmp_path / "one", {}, 0.7)
    write(tmp_path / "two", {"encoder": odd}, 0.5)
    results.main(["--repo", str(tmp_path), "--format", form])
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert len(out.splitlines()) == {"markdown": 4, "latex": 8, "csv": 3}[form]
    if form == "csv":
        rows = list(csv.DictReader(out.splitlines()))
        assert {row["--encoder"] for row in rows} == {"b", visible(odd)}


def test_results_as_latex_are_a_tabular_with_escaped_text(two_seeds, capsys):
    results.main(["--repo", str(two_seeds), "--format", "latex"])
    begin, top, header, middle, *rows, bottom, end = capsys.readouterr().out.splitlines()
    assert (begin, end) == (r"\begin{tabular}{lrrrrrrrr}", r"\end{tabular}")
    assert (top, middle, bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
    assert header.startswith(r"-{}-data & -{}-recipe & -{}-encoder & seeds & validation F1 &")
    assert rows == [
        r"gold & strong & b & 0, 1 & 75.00 $\pm$ 7.07 & 25.00 $\pm$ 0.00 & 37.50 $\pm$ 3.54 & "
        r"75.00 $\pm$ 7.07 & 50.00 $\pm$ 0.00 \\",
        r"llm & strong & 50\%\_of\_a\#b\&c & 0 & 50.00 & 25.00 & 25.00 & 50.00 & 50.00 \\",
    ]


def test_a_split_without_report_has_no_figures(tmp_path):
    write(tmp_path / "one", {}, 0.5)
    metrics = json.loads((tmp_path / "one/metrics.json").read_text())
    (tmp_path / "one/metrics.json").write_text(json.dumps({"test": metrics["test"]}))
    groups, _ = results.read_groups(tmp_path)
    assert results.results_table(groups)[1][2:5] == ["0", "-", "25.00"]
    assert results.results_table(groups, split_deviation=True)[1][2:6] == ["0", "", "", "25.0000"]


def test_a_store_without_results_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        results.main(["--repo", str(tmp_path)])
    assert stop.value.code == 2 and "holds no revision" in capsys.readouterr().err
    write(tmp_path / "one", {}, 0.5)
    for place, wanted in ((tmp_path / "none", "is no folder"), (tmp_path / "one", "is a revision")):
        with pytest.raises(InputError, match=wanted):
            results.read_groups(place)
    assert "unrecognized arguments: tabel" in refused(results, capsys, "tabel")


def test_damaged_records_do_not_hide_the_others(two_seeds, capsys):
    whole = results.results_table(results.read_groups(two_seeds)[0])
    write(two_seeds / "a", {"data": "golden"}, 0.1)
    write(two_seeds / "b", {"seed": None}, 0.1)
    write(two_seeds / "c", {}, 0.1)
    (two_seeds / "c/metrics.json").write_text('{"test": {"f1": 0.1, "loss": 1.0}}')
    write(two_seeds / "d", {}, 0.1)
    (two_seeds / "d/metrics.json").write_text("\x1b[31m")
    with pytest.raises(SystemExit) as stop:
        results.main(["--repo", str(two_seeds)])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == tables.markdown(whole) + "\n"
    assert err.count("\n") == 1 and "\x1b" not in err
    for fault in (
        'a/run.json: is damaged: config.data is "golden"',
        "b/run.json: has no config.seed",
        "c/metrics.json: has no test.precision",
        "d/metrics.json: is damaged: is not JSON",
    ):
        assert fault in err
    for name in ("one", "two", "three"):
        (two_seeds / name / "run.json").write_text("[]")
    assert "one/run.json: is damaged" in refused(results, capsys, "--repo", two_seeds)


def append_blank(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def halve_weights(path: Path) -> None:
    save_file({name: w / 2 for name, w in load_file(path).items()}, path, {"format": "pt"})


@pytest.mark.parametrize(
    "name, change",
    [
        ("model.safetensors", halve_weights),
        ("config.json", append_blank),
        ("tokenizer.json", append_blank),
        ("metrics.json", append_blank),
    ],
)
def test_a_file_that_is_not_what_its_run_wrote_is_refused(store, tmp_path, capsys, name, change):
    repo = shutil.copytree(store, tmp_path / "models")
    folder = repo / "model_primary"
    change(folder / name)
    fault = f"{folder / name}: is not as its run wrote it (another SHA-256 than in run.json)"
    read = results if name == "metrics.json" else evaluate
    flags = ["--repo", str(repo)] + (["--revision", "model_primary"] if read is evaluate else [])
    assert fault in refused(read, capsys, *flags)
    run = json.loads((folder / "run.json").read_text())
    assert run["files"].pop(name)  # as the line says, where the change is wanted
    (folder / "run.json").write_text(json.dumps(run))
    read.main(flags)
    del run["files"]  # as in revisions of earlier versions
    (folder / "run.json").write_text(json.dumps(run))
    read.main(flags)


def test_the_hashes_are_of_all_files_that_a_model_is_read_from(store):
    folder = store / "model_primary"
    written = json.loads((folder / "run.json").read_text())["files"]
    there = {path.name for path in folder.iterdir() if path.is_file()}
    assert there - written.keys() == {"run.json", "README.md", "log.txt"}
    for name, digest in written.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_revision_that_lacks_a_record_is_not_left_out_in_silence(store, tmp_path, capsys):
    repo = shutil.copytree(store, tmp_path / "models")
    for name, missing in (("a", "run.json"), ("b", "metrics.json"), ("c", "config.json")):
        shutil.copytree(store / "model_primary", repo / name)
        (repo / name / missing).unlink()
    (repo / "c" / "config.json").symlink_to("nowhere")
    message = refused(results, capsys, "--repo", str(repo))
    assert "a: " in message and f"{repo / 'a/run.json'}: no such file" in message
    assert "b: " in message and f"{repo / 'b/metrics.json'}: no such file" in message
    assert "c: " not in message
    message = refused(revisions, capsys, "list", "--repo", str(repo))
    assert "a: " not in message and "b: " in message and "c: " not in message


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "config.json"])
def test_a_link_in_a_circle_hides_no_other_revision(store, tmp_path, capsys, name):
    repo = shutil.copytree(store, tmp_path / "models")
    shutil.copytree(store / "model_primary", repo / "bad")
    (repo / "bad" / name).unlink()
    (repo / "bad" / name).symlink_to(name)
    (repo / "nowhere").symlink_to("none")
    for script, flags in ((results, []), (revisions, ["list"])):
        with pytest.raises(SystemExit) as stop:
            script.main([*flags, "--repo", str(repo)])
        out, err = capsys.readouterr()
        assert stop.value.code == 2 and err.count("error: ") == err.count("\n") == 1
        assert out.count("|") > 20 and "nowhere: " in err
        assert (f"bad: {repo / 'bad' / name}: " in err) == (name != "config.json")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(store, tmp_path, capsys):
    repo = shutil.copytree(store, tmp_path / "models")
    shutil.copytree(store / "model_primary", repo / "bad")
    (repo / "bad").chmod(0)
    assert "no permission to read it" in refused(revisions, capsys, "list", "--repo", str(repo))


def test_a_copy_of_a_revision_is_no_further_run():
    runs = {name: run(seed=seed) | {"id": name} for seed, name in enumerate("abc")}
    copies = {"copy of a": runs["a"], "copy of b": runs["b"], "old": run(seed=3)}
    groups = records.by_configuration(runs | copies)
    assert groups == [["a", "b", "c", "old"], ["copy of a"], ["copy of b"]]
