"""The scripts end to end, on real files and through a real launch, and what they answer to bad
input: one line, exit code 2, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TORCHRUN, files, refused, small
from safetensors.torch import load_file
from seqeval.metrics import f1_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import evaluate
import train
from nerc.data import sources, tags
from nerc.model import encoding, inference
from nerc.store import model_files
from nerc.tables import counted

ROOT = Path(__file__).parents[1]


# ------------------------------------------------------------------- what a run leaves


def test_a_run_leaves_exactly_a_revision(store):
    found = files(store)
    logs = {file for file in found if "/logs/" in file}
    assert len(logs) == 1
    assert found - logs == {
        f"model_primary/{name}"
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "metrics.json",
            "run.json",
            "README.md",
            "log.txt",
        )
    }


def test_run_json_tells_how_the_revision_was_made(store, folder, encoder):
    run = json.loads((store / "model_primary/run.json").read_text())
    assert run["revision"] == "model_primary" and run["precision"] in ("float32", "bf16")
    config = run["config"]
    assert (config["corpus"], config["encoder"]) == (str(folder), str(encoder))
    assert (config["optimizer"], config["lr"], config["batch_size"]) == ("adamw", 1e-3, 8)
    assert config["dropout"] == 0.1 and config["momentum"] == 0.0
    assert run["data"]["train"] == sources.load(str(folder), "train").describe()
    assert [epoch["number"] for epoch in run["epochs"]] == [1, 2] and run["kept_epoch"] in (1, 2)
    assert run["command"].startswith("train.py --corpus") and run["versions"]["torch"]


def test_metrics_json_holds_both_splits_with_every_entity(store, folder):
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    assert set(metrics) == {"validation", "test"}
    for split, report in metrics.items():
        corpus = sources.load(str(folder), split)
        entities = [tags.entities(s.tags) for s in corpus]
        assert report["sentences"] == len(corpus) and report["words"] == corpus.num_words
        assert report["entities"] == sum(map(len, entities)) > 0
        assert report["entities"] == sum(t["support"] for t in report["types"].values())
        assert 0 <= report["f1"] <= 1 and 0 <= report["accuracy"] <= 1


def test_tensorboard_reads_the_curves(store):
    events = EventAccumulator(str(store / "model_primary/logs")).Reload()
    assert set(events.Tags()["scalars"]) == {
        *("train/loss", "train/learning_rate", "train/words_per_second"),
        *("validation/loss", "validation/accuracy", "validation/f1"),
        *(
            f"with_kept_weights/{split}_{figure}"
            for split in ("validation", "test")
            for figure in ("f1", "accuracy", "loss")
        ),
    }
    assert [event.step for event in events.Scalars("validation/f1")] == [9, 18]


def test_evaluate_prints_what_training_printed(folder, encoder, tmp_path, capsys):
    repo = str(tmp_path / "models")
    train.main([*small(folder, encoder), "--repo", repo, "--seed", "3"])
    trained = capsys.readouterr().out
    for split in ("validation", "test"):
        evaluate.main(["--repo", repo, "--revision", "model_primary", "--split", split])
        printed = capsys.readouterr().out
        understood, _, printed = printed.partition("\n")
        table, _, intervals = printed.partition("95 % intervals from ")
        assert "word in column 1, tag in column 2 of 2" in understood and understood in trained
        assert "F1-Score" in table and table in trained
        assert "model_primary: F1 " in intervals


def test_evaluate_puts_revisions_side_by_side_and_writes_json(store, tmp_path, capsys):
    again = tmp_path / "models"
    shutil.copytree(store, again)
    shutil.copytree(store / "model_primary", again / "other")
    out = tmp_path / "report.json"
    names = ["other", "model_primary"]
    evaluate.main(["--repo", str(again), "--revision", *names, "--json", str(out)])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["Revision", "-" * 13, *names]
    assert "Validation Loss" in rows[0] and "Seqeval Accuracy" in rows[0] and "PER F1" in rows[0]
    written = json.loads(out.read_text())
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    assert list(written) == names
    for name in names:
        assert written[name] == {"validation": metrics["validation"]}


def test_evaluate_reads_a_corpus_once_and_prints_its_notes_once(
    store, folder, tmp_path, capsys, monkeypatch
):
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    # An inside tag that continues no entity, which is a note.
    (corpus / "test.txt").write_text(
        (corpus / "test.txt").read_text() + "\nAnn B-PER\n\nRex I-PER\n"
    )
    repo = tmp_path / "models"
    shutil.copytree(store, repo)
    shutil.copytree(store / "model_primary", repo / "other")
    read = []
    load = sources.load
    monkeypatch.setattr(sources, "load", lambda *args: (read.append(args), load(*args))[1])
    flags = ["--repo", repo, "--revision", "model_primary", "other", "--split", "test"]
    evaluate.main([*map(str, flags), "--corpus", str(corpus)])
    lines = capsys.readouterr().out.splitlines()
    assert read == [(str(corpus), "test", None)]
    notes = [line for line in lines if line.startswith(str(corpus))]
    assert len(notes) == 2 and "1 I- tags do not continue an entity" in notes[1]
    evaluate.main([*map(str, flags), "--corpus", str(corpus), "--quiet"])
    assert capsys.readouterr().out.splitlines() == [line for line in lines if line not in notes]


def test_several_processes_evaluate_as_one_does_and_print_once(store, capsys):
    flags = ["--repo", str(store), "--revision", "model_primary", "--num-threads", "1"]
    evaluate.main(flags)
    alone = capsys.readouterr().out
    assert alone.count("| model_primary |") == 1
    done = run(*TORCHRUN, "2", "evaluate.py", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone


def test_revisions_of_different_corpora_stand_in_different_tables(store, tmp_path, capsys):
    repo = tmp_path / "models"
    shutil.copytree(store, repo)
    train.main(["--corpus", "sample:80", "--epochs", "1", "--repo", str(repo), "--revision", "b"])
    capsys.readouterr()
    evaluate.main(["--repo", str(repo), "--revision", "model_primary", "b"])
    out = capsys.readouterr().out
    assert out.count("validation: ") == out.count("| Revision") == 2


def test_seqeval_by_hand_gives_the_same_f1(store, folder):
    model, tokenizer = model_files.load_revision(store / "model_primary")
    corpus = sources.load(str(folder), "test")
    encoded = encoding.encode_for(model, tokenizer, corpus)
    predicted = inference.decode(inference.predict(model, encoded), model.config.word_tags)
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    assert f1_score([list(s.tags) for s in corpus], predicted) == metrics["test"]["f1"]


def test_two_runs_with_one_seed_leave_equal_weights(store, folder, encoder, tmp_path):
    train.main([*small(folder, encoder), "--repo", str(tmp_path)])
    one, two = (load_file(r / "model_primary/model.safetensors") for r in (store, tmp_path))
    assert one.keys() == two.keys() and all(one[k].equal(two[k]) for k in one)


def test_start_goes_on_from_a_revision(store, folder, tmp_path):
    repo = tmp_path / "models"
    shutil.copytree(store, repo)
    flags = f"--corpus {folder} --start model_primary --revision tuned --repo {repo} --epochs 1"
    train.main([*flags.split(), "--lr", "1e-9", "--head-lr", "1e-9"])
    one, two = (load_file(repo / r / "model.safetensors") for r in ("model_primary", "tuned"))
    for name, weight in one.items():
        assert (weight - two[name]).abs().max() < 1e-6
    assert files(repo / "tuned") >= {"tokenizer.json", "metrics.json"}


@pytest.mark.parametrize(
    "flags, name",
    [
        ("--data llm", "main"),
        ("--data mixed --expert 20", "model_mixed_20_sentences"),
        ("--data gold --expert 30% --keep last --lstm-hidden-size 0", "model_primary_30"),
    ],
)
def test_whose_labels_names_the_revision(folder, encoder, tmp_path, flags, name, capsys):
    train.main([*small(folder, encoder), *flags.split(), "--repo", str(tmp_path)])
    assert (tmp_path / name / "metrics.json").exists()
    assert f"saved as {tmp_path / name}" in capsys.readouterr().out


def test_the_built_in_corpus_needs_nothing(tmp_path, capsys):
    flags = ["--corpus", "sample:60", "--epochs", "1", "--recipe", "paper"]
    train.main([*flags, "--repo", str(tmp_path)])
    out = capsys.readouterr().out
    assert "60 sentences" in out and "--recipe strong gives a higher F1" in out
    evaluate.main(["--repo", str(tmp_path), "--revision", "model_primary", "--split", "test"])
    assert "| model_primary |" in capsys.readouterr().out


@pytest.mark.slow
def test_tiny_learns_the_built_in_corpus(tmp_path):
    train.main(["--data", "gold", "--corpus", "sample", "--repo", str(tmp_path)])
    metrics = json.loads((tmp_path / "model_primary/metrics.json").read_text())
    assert 0.93 <= metrics["validation"]["f1"] <= 0.97


def test_an_overwritten_revision_is_the_new_one(folder, encoder, tmp_path):
    for seed in ("1", "2"):
        flags = ["--repo", str(tmp_path), "--seed", seed, "--overwrite", "--epochs", "1"]
        train.main([*small(folder, encoder), *flags])
    assert json.loads((tmp_path / "model_primary/run.json").read_text())["config"]["seed"] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["model_primary"]


def test_a_missing_test_split_is_said(folder, encoder, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    (corpus / "test.txt").unlink()
    train.main([*small(corpus, encoder), "--repo", str(tmp_path / "models")])
    assert "has no test.txt" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "models/model_primary/metrics.json").read_text())
    assert list(metrics) == ["validation"]


def test_a_changed_corpus_is_reported(store, folder, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    repo = tmp_path / "models"
    shutil.copytree(store, repo)
    run = repo / "model_primary/run.json"
    run.write_text(run.read_text().replace(str(folder), str(corpus)))
    with (corpus / "valid.txt").open("a") as file:
        file.write("\n\nmore O\n")
    evaluate.main(["--repo", str(repo), "--revision", "model_primary"])
    assert f"the validation sentences of {corpus} have changed" in capsys.readouterr().out


def run(*command: str, **env: str) -> subprocess.CompletedProcess:
    """A command from the project's folder, as a shell runs it."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | env
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_accelerate_launch_uses_every_core(folder, encoder, tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    flags = [*small(folder, encoder), "--num-threads", "0", "--repo", str(tmp_path)]
    done = run(*launch, "train.py", *flags)
    assert done.returncode == 0, done.stderr
    cores = len(os.sched_getaffinity(0))
    assert f"1 process on cpu, {counted(cores, 'thread')} each" in done.stdout


# ------------------------------------------------------------------- bad input


BAD_FILES = {
    "missing file": (None, "has no train.txt"),
    "empty file": ("", "no sentence in it"),
    "one column": ("a O\nb\n", "train.txt:2: found one column, 'b'"),
    "malformed tag": ("a O\n\nb BPER\n", "train.txt:3: 'BPER' in column 2 is no tag"),
    "not UTF-8": (b"a O\n\xff O\n", "train.txt:2: byte 0xff"),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_is_refused(folder, encoder, tmp_path, capsys, fault):
    content, message = BAD_FILES[fault]
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    (corpus / "train.txt").unlink()
    if content is not None:
        raw = content if isinstance(content, bytes) else content.encode()
        (corpus / "train.txt").write_bytes(raw)
    models = tmp_path / "models"
    assert message in refused(train, capsys, *small(corpus, encoder), "--repo", models)
    assert not models.exists()


def test_a_tag_outside_the_inventory_is_refused(store, folder, encoder, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    with (corpus / "valid.txt").open("a") as file:
        file.write("\n\nSonata B-ART\n")
    judged = ["--repo", store, "--revision", "model_primary", "--corpus", corpus]
    message = "'B-ART' of the word 'Sonata' is not among the tags of"
    assert message in refused(evaluate, capsys, *judged)
    models = tmp_path / "models"
    assert message in refused(train, capsys, *small(corpus, encoder), "--repo", models)
    assert not models.exists()


@pytest.mark.parametrize("missing, message", [("valid.txt", "has no valid.txt"), ("", "llm.txt")])
def test_a_missing_split_is_refused(folder, encoder, tmp_path, capsys, missing, message):
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    (corpus / (missing or "llm.txt")).unlink()
    flags = [*small(corpus, encoder), "--repo", tmp_path / "models"]
    flags += [] if missing else ["--data", "llm"]
    assert message in refused(train, capsys, *flags)
    assert not (tmp_path / "models").exists()


def test_a_missing_validation_split_is_no_fault_where_nothing_is_chosen(
    folder, encoder, tmp_path, capsys
):
    corpus = tmp_path / "corpus"
    shutil.copytree(folder, corpus)
    (corpus / "valid.txt").unlink()
    train.main([*small(corpus, encoder), "--keep", "last", "--repo", str(tmp_path / "models")])
    assert "has no valid.txt" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_an_encoder_without_its_files_is_refused(folder, encoder, tmp_path, capsys, file):
    broken = tmp_path / "encoder"
    shutil.copytree(encoder, broken)
    (broken / file).unlink()
    message = "holds no " + ("model.safetensors" if file.startswith("model") else "tokenizer")
    flags = [*small(folder, broken), "--repo", tmp_path / "models"]
    assert message in refused(train, capsys, *flags)
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module", autouse=True)
def without_a_hub(tmp_path_factory):
    """A run on a machine without a network; it tries for half a minute, meanwhile others test."""
    folder = tmp_path_factory.mktemp("without_a_hub")
    # A port where nothing listens, and no cache.
    env = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "cache"),
    }
    program = [sys.executable, "train.py", "--repo", str(folder / "models")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, cwd=ROOT, env=os.environ | env, **pipes) as process:
        yield process, folder / "models"
        process.kill()


def test_a_revision_that_is_not_there_is_refused(store, capsys):
    message = refused(evaluate, capsys, "--repo", store, "--revision", "model_primary", "nope")
    assert "no revision nope" in message and "(there: model_primary)" in message
    message = refused(train, capsys, "--repo", store, "--start", "nope", "--revision", "x")
    assert "(there: model_primary)" in message


def test_a_revision_that_is_there_already_is_refused(store, folder, encoder, capsys):
    before = (store / "model_primary/run.json").read_bytes()
    message = refused(train, capsys, *small(folder, encoder), "--repo", store)
    assert "is in" in message and "--overwrite" in message
    assert (store / "model_primary/run.json").read_bytes() == before


def test_unknown_flags_and_values_out_of_range_are_refused(capsys):
    assert "--colour" in refused(train, capsys, "--colour", "red")
    assert "--epochs must be 1 or more" in refused(train, capsys, "--epochs", "0")
    assert "--split" in refused(evaluate, capsys, "--revision", "a", "--split", "dev")


def test_a_loss_that_explodes_is_refused(folder, encoder, tmp_path, capsys):
    flags = [*small(folder, encoder), "--optimizer", "sgd", "--lr", "1e30", "--clip", "0"]
    message = refused(train, capsys, *flags, "--repo", tmp_path / "models")
    assert "the loss is nan, on" in message and "train.txt:" in message
    assert not (tmp_path / "models").exists()


def test_a_run_that_ends_with_broken_weights_is_refused(folder, encoder, tmp_path, capsys):
    # One update only: the loss before it is finite, the weights after it are not.
    flags = ["--batch-size", "99", "--epochs", "1", "--optimizer", "sgd", "--clip", "0"]
    flags += ["--warmup", "0", "--lr", "1e38", "--head-lr", "1e38", "--repo", tmp_path / "models"]
    message = refused(train, capsys, *small(folder, encoder), *flags)
    assert "its weights are broken" in message and not (tmp_path / "models").exists()


@pytest.mark.parametrize("file", ["run.json", "config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_revision_is_refused(store, tmp_path, capsys, file):
    repo = tmp_path / "models"
    shutil.copytree(store, repo)
    (repo / "model_primary" / file).write_text("[]")
    message = refused(evaluate, capsys, "--repo", repo, "--revision", "model_primary")
    assert "model_primary" in message


def test_evaluate_without_revisions_names_those_there_are(store, tmp_path, capsys):
    message = refused(evaluate, capsys, "--repo", store)
    assert "--revision names the revisions to evaluate, such as --revision model_primary" in message
    assert f"{store} holds: model_primary" in message
    assert "holds: none" in refused(evaluate, capsys, "--repo", tmp_path)


REFUSED_WITHOUT_A_MODEL = {
    "no revision": ([], "--revision names the revisions to evaluate"),
    "missing revision": (["--revision", "nope"], "no revision nope"),
    "bad flag": (["--revision", "model_primary", "--map", "PERSON"], "pairs of types"),
    "bad json": (["--revision", "model_primary", "--json", "no/x.json"], "no such folder"),
    "bad corpus": (["--revision", "model_primary", "--corpus", "./no"], "no such folder"),
}


def test_evaluate_refuses_what_needs_no_model_before_it_loads_torch(store):
    cases = [
        ([*flags, "--repo", str(store)], wanted)
        for flags, wanted in REFUSED_WITHOUT_A_MODEL.values()
    ]
    code = f"""
import io, sys
sys.path.insert(0, ".")
import evaluate
for flags, wanted in {cases!r}:
    sys.stderr = io.StringIO()
    try:
        evaluate.main(flags)
    except SystemExit as stop:
        message = sys.stderr.getvalue()
        assert stop.code == 2 and message.count("\\n") == 1 and wanted in message, (flags, message)
    else:
        assert False, flags
    assert "torch" not in sys.modules and "transformers" not in sys.modules, flags
"""
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_disk_without_room_is_refused_before_training(folder, encoder, small_disk, capsys):
    (small_disk / "ballast").write_bytes(bytes(6 * 2**20))
    models = small_disk / "models"
    message = refused(train, capsys, *small(folder, encoder), "--repo", models)
    assert "no room on the disk" in message and not models.exists()


def test_a_disk_that_fills_up_during_training_is_said(
    folder, encoder, small_disk, capsys, monkeypatch
):
    models = small_disk / "models"
    save = model_files.save

    def fill_and_save(*args):
        free = shutil.disk_usage(small_disk).free
        (small_disk / "ballast").write_bytes(bytes(free - 2**14))
        save(*args)

    monkeypatch.setattr(model_files, "save", fill_and_save)
    message = refused(train, capsys, *small(folder, encoder), "--repo", models)
    assert "no room on the disk" in message
    assert not models.exists()


def test_a_hub_out_of_reach_is_said(without_a_hub):
    process, models = without_a_hub
    _, error = process.communicate()
    assert process.returncode == 2, error
    assert error.count("\n") == 1, error
    assert "lhoestq/conll2003: is no folder here, and the Hub cannot be reached" in error
    assert "or sample, which needs no network" in error
    assert not models.exists()
