"""Methods to combine labels: what each learns from, soft labels, and stages that resume exactly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import TORCHRUN, refused, small, write_conll
from safetensors.torch import load_file

import evaluate
import nerc.__main__
import train
from nerc.cli import parse
from nerc.config import COMBINATIONS, TrainConfig
from nerc.data import corpus, sources
from nerc.distributed import Session, Status, StopSignals
from nerc.model import encoding, inference
from nerc.training import combine, trainer
from nerc.training.combine import TrainingSet

ROOT = Path(__file__).parents[1]
MIXED = "--data mixed --expert 20 --precision float32 --dropout 0".split()


def training_set(encoded, expert=(0, 1), weak=(2, 3, 4), unlabelled=()) -> TrainingSet:
    kinds = (np.array(kind, dtype=np.int64) for kind in (expert, weak, unlabelled))
    return TrainingSet(encoded, *kinds, num_labels=12)


def session() -> Session:
    accelerator = Accelerator()
    return Session(accelerator, StopSignals(accelerator), Status(None))


@pytest.fixture
def encoded(model, tokenizer, folder):
    return encoding.encode_for(model, tokenizer, sources.load(str(folder), "train"))


def losses(model, encoded, sentences) -> torch.Tensor:
    batch = encoding.collate(encoded, np.array(sentences), multiple=8)
    return trainer.summed_losses(model, batch, bf16=False)[: len(sentences)]


def test_there_is_a_method_for_every_combination():
    assert tuple(combine.METHODS) == COMBINATIONS


def test_labels_as_targets_are_the_same_loss_and_gradient(model, encoded):
    soft = replace(encoded, targets=combine.hard_targets(training_set(encoded)))
    gradients = []
    for each in (encoded, soft):
        model.zero_grad()
        losses(model, each, [3, 5, 2]).sum().backward()
        gradients.append(model.classifier.weight.grad.clone())
    assert torch.allclose(losses(model, encoded, [3, 5, 2]), losses(model, soft, [3, 5, 2]))
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].abs().max() > 0.01
    assert soft.num_labelled().tolist() == encoded.num_labelled().tolist()


def test_a_words_loss_is_that_of_its_labels_by_their_weights(model, encoded):
    words = encoded.words_of(np.array([3]))
    one, two = (replace(encoded, labels=np.full_like(encoded.labels, k)) for k in (1, 4))
    targets = np.zeros((len(encoded.labels), 12), dtype=np.float32)
    targets[words, 1], targets[words, 4] = 0.5, 1.5
    mixed = replace(encoded, targets=targets)
    wanted = 0.5 * losses(model, one, [3]) + 1.5 * losses(model, two, [3])
    assert torch.allclose(losses(model, mixed, [3]), wanted)
    assert mixed.num_labelled()[3] == 2 * len(words) and mixed.num_labelled()[4] == 0
    assert losses(model, mixed, [4]).item() == 0


def test_words_of_sentences_stand_one_after_the_other(encoded):
    offsets = encoded.sentence_offsets
    wanted = [i for s in (5, 0, 5) for i in range(offsets[s], offsets[s + 1])]
    assert encoded.words_of(np.array([5, 0, 5])).tolist() == wanted


def test_chosen_sentences_are_predicted_as_among_all(model, encoded):
    every, chosen = inference.predict(model, encoded), np.array([9, 2, 30])
    for i, rows in zip(chosen, inference.predict(model, encoded, chosen), strict=True):
        assert np.allclose(rows, every[i], atol=1e-5)


def test_a_training_reads_a_sentence_as_often_as_it_is_listed(model, encoded):
    listed = np.array([3, 3, 8, 3, 9])
    config = TrainConfig(recipe="strong", epochs=2, batch_size=2)
    trained = trainer.Trainer(
        model,
        trainer.TrainingData(encoded, listed),
        config.resolved(hidden_size=32, num_layers=2),
        session(),
        bf16=False,
    )
    updates = trained._rest_of_epoch()
    assert sorted(np.concatenate(updates)) == sorted(listed) and trained.num_updates == 2 * 3


def test_expert_sentences_are_repeated_until_they_are_a_share():
    expert, others = np.arange(10), np.arange(10, 100)
    found = combine.oversample_experts(expert, others, 0.25)
    assert np.isin(found, expert).mean() == pytest.approx(0.25) and set(found) == set(range(100))
    assert set(combine.oversample_experts(np.arange(80), others, 0.25)) == {*range(100)}
    assert len(combine.oversample_experts(expert, others, 0.25, 7)) == 7 * 10 + 90
    assert combine.oversample_experts(np.array([]), others, 0.25).tolist() == others.tolist()


def test_probabilities_move_towards_those_of_the_same_word_elsewhere(tokenizer, model):
    rows = [("the", "Kiwi", "won"), ("Kiwi", "of", "kiwi"), ("Kiwi", "the")]
    sentences = [corpus.Sentence(words, ("O",) * len(words), "here:1", 0) for words in rows]
    encoded = encoding.encode_for(model, tokenizer, corpus.Corpus.of(sentences))
    chosen = np.array([2, 0, 1])
    words = [word for sentence in chosen for word in rows[sentence]]
    found = np.random.default_rng(0).dirichlet(np.ones(9), len(words))
    found[:, -1] = 0
    mixed = combine.one_sense_per_word(encoded, chosen, found, 0.25)
    pieces = [tuple(tokenizer.tokenize(word)) for word in words]
    for i, own in enumerate(pieces):
        others = [found[j] for j, each in enumerate(pieces) if each == own and j != i]
        wanted = found[i]
        if others:
            mean = np.maximum(np.mean(others, axis=0), 1e-3)
            wanted = np.exp(0.75 * np.log(found[i, :-1]) + 0.25 * np.log(mean[:-1]))
            wanted = np.append(wanted / wanted.sum(), 0)
        assert np.allclose(mixed[i], wanted, atol=1e-6)
    assert sum(pieces.count(own) > 1 for own in pieces) >= 5


# ------------------------------------------------------------ whole runs


def run(repo, folder, encoder, *flags) -> dict:
    train.main([*small(folder, encoder), *MIXED, "--repo", str(repo), *flags])
    (place,) = repo.glob("model_mixed*")
    return json.loads((place / "run.json").read_text())


def weights(repo) -> dict[str, torch.Tensor]:
    return load_file(repo / "model_mixed_20_sentences/model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(folder, encoder, tmp_path_factory):
    """A store with a run of selftrain that nothing disturbed."""
    repo = tmp_path_factory.mktemp("undisturbed") / "models"
    run(repo, folder, encoder)
    return repo


@pytest.mark.parametrize("method, stages", [("concat", []), ("pretrain", ["cheap labels"])])
def test_every_method_keeps_a_revision(folder, encoder, tmp_path, method, stages):
    record = run(tmp_path, folder, encoder, "--combine", method, "--epochs", "1", "--keep", "last")
    assert [stage["name"] for stage in record["stages"]] == stages
    assert record["config"]["combine"] == method and record["config"]["unlabelled"] == 0


def test_a_hook_sees_every_stage_and_settings_change_them(folder, encoder, tmp_path):
    seen = []

    def on_stage(record, runner) -> None:
        record["classifier"] = runner.model.classifier.weight.sum().item()
        seen.append(record["name"])

    def customize(setup):
        return replace(
            setup.with_settings(combine.CombinationSettings(num_teachers=1, expert_passes=9)),
            on_stage=on_stage,
        )

    flags = [*small(folder, encoder), *MIXED, "--repo", str(tmp_path), "--combine", "selftrain"]
    *configs, _ = parse(flags, train.PROGRAM, "", *train.CONFIGS)
    train.run(*configs, command="", customize=customize)
    record = json.loads((tmp_path / "model_mixed_20_sentences/run.json").read_text())
    assert seen == [stage["name"] for stage in record["stages"]] == ["cheap labels", "teacher 1"]
    assert len({stage["classifier"] for stage in record["stages"]}) == 2


def test_selftrain_is_the_default_of_strong(undisturbed):
    found = json.loads((undisturbed / "model_mixed_20_sentences/run.json").read_text())
    assert found["config"]["combine"] == "selftrain"
    assert [stage["name"] for stage in found["stages"]] == [
        *("cheap labels", "teacher 1", "cheap labels, again 1", "teacher 2"),
    ]
    assert all(stage["updates"] > 0 and stage["loss"] > 0 for stage in found["stages"])


def test_evaluate_knows_the_labelled_sentences_of_such_a_run(undisturbed, capsys):
    name = "model_mixed_20_sentences"
    evaluate.main(["--repo", str(undisturbed), "--revision", name, "--details"])
    out = capsys.readouterr().out
    assert "entity in training: no" in out and "have changed" not in out


@pytest.mark.parametrize("stage", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_killed_in_a_stage_ends_as_the_undisturbed_one(
    undisturbed, folder, encoder, tmp_path, capsys, stage
):
    record = json.loads((undisturbed / "model_mixed_20_sentences/run.json").read_text())
    reached = sum(s["updates"] for s in record["stages"][:stage]) + 2
    flags = [*small(folder, encoder), *MIXED, "--repo", str(tmp_path), "--checkpoint-every", "1"]
    program = [sys.executable, "train.py", *flags]
    process = subprocess.Popen(program, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    place = tmp_path / ".checkpoints/model_mixed_20_sentences"
    while not any(int(p.stem[7:]) >= reached for p in place.glob("update_*")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    train.main([*flags, "--resume"])
    out = capsys.readouterr().out
    assert "resumed after update" in out
    assert "weak labels: " not in out  # which is not done again
    again, wanted = weights(tmp_path), weights(undisturbed)
    assert all(again[name].equal(wanted[name]) for name in wanted)


@pytest.fixture
def with_removed_method(undisturbed, tmp_path) -> Path:
    """A store whose revision was made by a method that nerc no longer has."""
    repo = shutil.copytree(undisturbed, tmp_path / "removed")
    record = repo / "model_mixed_20_sentences/run.json"
    record.write_text(record.read_text().replace('"combine": "selftrain"', '"combine": "filter"'))
    return repo


def test_a_revision_of_a_removed_method_is_listed_evaluated_and_tabulated(
    with_removed_method, capsys
):
    store, name = ["--repo", str(with_removed_method)], "model_mixed_20_sentences"
    for command, shown in ((["revisions", "list"], name), (["results"], "| mixed ")):
        nerc.__main__.main([*command, *store])
        assert shown in capsys.readouterr().out
    evaluate.main([*store, "--revision", name, "--details"])
    out = capsys.readouterr().out
    assert f"| {name} |" in out and "entity in training: no" in out


def test_a_run_of_a_removed_method_is_not_resumed(with_removed_method, folder, encoder, capsys):
    flags = [*small(folder, encoder), *MIXED, "--repo", str(with_removed_method), "--resume"]
    message = refused(train, capsys, *flags)
    assert "it combines labels by --combine filter, which nerc no longer has" in message
    assert "invalid choice: 'filter'" in refused(train, capsys, *flags, "--combine", "filter")


def test_a_signal_while_teachers_label_loses_no_stage(
    undisturbed, folder, encoder, tmp_path, capsys
):
    flags = [*small(folder, encoder), *MIXED, "--repo", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-u", "train.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("teacher 1: "):
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    train.main([*flags, "--resume"])
    out = capsys.readouterr().out
    assert "teacher 1: 20 sentences" not in out and "teacher 2: 20 sentences" in out
    again, wanted = weights(tmp_path), weights(undisturbed)
    assert all(again[name].equal(wanted[name]) for name in wanted)


@pytest.mark.slow  # active learning has the same, test_two_processes_ask_for_what_one_asks_for
def test_two_processes_make_what_one_makes(undisturbed, folder, encoder, tmp_path):
    flags = [*small(folder, encoder), *MIXED, "--repo", str(tmp_path)]
    done = subprocess.run(
        [*TORCHRUN, "2", "train.py", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found, wanted = weights(tmp_path), weights(undisturbed)
    assert max((found[name] - wanted[name]).abs().max() for name in wanted) < 1e-3


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--data gold --combine pretrain", "--combine must be left out without --data mixed"),
        ("--data llm --combine concat", "--combine must be left out without --data mixed"),
        ("--data llm --repair inventory", "--repair must be without inventory, which compares"),
        ("--data gold --repair form", "--repair must be left out with --data gold"),
        ("--data llm --repair form none", "--repair must be auto or none by itself, or others"),
        ("--data mixed --repair auto inventory", "--repair must be auto or none by itself, or"),
        ("--data llm --repair capitals", "--repair: invalid choice: 'capitals' (choose from"),
        ("--data mixed --combine concat --unlabelled 3", "left out without --combine selftrain"),
    ],
)
def test_flags_without_effect_are_refused(flags, message, tmp_path, capsys):
    line = [*flags.split(), "--corpus", "sample:60", "--repo", tmp_path]
    assert message in refused(train, capsys, *line)
    assert not list(tmp_path.iterdir())


def test_a_weak_label_that_an_expert_label_replaces_may_be_of_any_type(store, tmp_path):
    shutil.copytree(store, tmp_path / "models")
    own = (("Tui", "sings"), ("B-PER", "O"), 0)
    write_conll(tmp_path / "train.txt", [own])
    weak = (("Tui", "sings"), ("B-DATE", "O"), 0)
    write_conll(tmp_path / "llm.txt", [weak, (("it", "rains"), ("O", "O"), 0)])
    line = ["--start", "model_primary", "--repo", tmp_path / "models", "--corpus", tmp_path]
    line += ["--data", "mixed", "--expert", "100%", "--combine", "pretrain", "--repair", "none"]
    train.main([str(f) for f in (*line, "--epochs", 1, "--keep", "last", "--revision", "new")])
    run = json.loads((tmp_path / "models/new/run.json").read_text())
    assert run["data"]["train"]["sentences"] == 2
