"""A run from its sources to its revision: what is read, printed, logged and recorded."""

import json
import shutil
import time

import pytest
from accelerate import Accelerator
from conftest import logged, small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import train
from nerc.cli import start_logging
from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.data.labels import AcquiredLabels
from nerc.data.sources import read_sources
from nerc.errors import InputError
from nerc.model.precision import Precision
from nerc.store.records import read_run
from nerc.store.revisions import Store
from nerc.training import setup
from nerc.training.checkpoints import Checkpoints

FLOAT32 = Precision("float32", Accelerator(cpu=True))
NETWORK = ModelConfig(encoder="tiny", lstm_hidden_size=8)


def prepare(folder, **more) -> setup.RunSetup:
    data = DataConfig(corpus=str(folder))
    return setup.prepare(data, NETWORK, TrainConfig(), Store("models"), FLOAT32, **more)


# ------------------------------------------------------------------- sources


def test_sources_that_were_read_are_not_read_again(folder, tmp_path):
    corpus = shutil.copytree(folder, tmp_path / "corpus")
    data, config = DataConfig(data="mixed", corpus=str(corpus)), TrainConfig(recipe="strong")
    data = data.resolved("strong")
    sources = read_sources(data, config.keep)
    shutil.rmtree(corpus)
    start = setup.prepare(data, NETWORK, config, Store("models"), FLOAT32, sources=sources)
    assert len(start.corpora["test"]) == 19 and len(start.training_set.expert) == 8


def test_acquired_labels_need_no_training_split(folder, tmp_path):
    expert = read_sources(DataConfig(corpus=str(folder)), "best").train
    corpus = shutil.copytree(folder, tmp_path / "corpus")
    (corpus / "train.txt").unlink()
    some = expert.select(range(5))
    start = prepare(corpus, acquired=AcquiredLabels(some, expert))
    assert start.corpora["train"].fingerprint() == some.fingerprint()


@pytest.mark.parametrize(
    "given, is_odd, recorded",
    [
        ((), lambda word, place: word < 3, ("form",)),
        ((), lambda word, place: place < 3, ("none",)),
        (("well-formed",), lambda word, place: word < 3, ("well-formed",)),
    ],
)
def test_the_repairs_that_auto_chose_are_recorded(tmp_path, given, is_odd, recorded):
    """Errors that repeat with their words, in 3 of 10, or fall on 3 of the 10 places of each."""
    tag = {True: "B-LOC", False: "O"}
    places = [(i % 10, i // 10) for i in range(100)]
    rows = (f"Anna B-PER\n{'abcdefghij'[k]} {tag[is_odd(k, place)]}\n" for k, place in places)
    (tmp_path / "llm.txt").write_text("\n".join(rows))
    data, config = DataConfig("llm", corpus=str(tmp_path), repair=given), TrainConfig(keep="last")
    start = setup.prepare(data, NETWORK, config, Store("models"), FLOAT32)
    assert start.description["config"]["repair"] == recorded


def test_the_training_sentences_of_a_revision_are_found_again(store, folder):
    revision = store / "model_primary"
    found = setup.training_sentences(read_run(revision), revision)
    assert len(found) == 70 and found.entity_types()


@pytest.mark.parametrize("missing", [["config"], ["data"], ["config", "seed"], ["data", "train"]])
def test_without_the_record_of_the_training_its_sentences_are_unavailable(store, missing):
    run = read_run(store / "model_primary")
    part = run
    for key in missing[:-1]:
        part = part[key]
    del part[missing[-1]]
    start_logging()
    with logged() as messages:
        assert setup.training_sentences(run, store / "model_primary") is None
    assert messages[-1].endswith("what the revision was trained on: no scores by what training had")
    with pytest.raises(InputError, match="no run.json says"):
        setup.expert_sentences(run, store / "model_primary")


def test_a_bug_while_training_sentences_are_rebuilt_is_not_hidden(store, monkeypatch):
    monkeypatch.setattr(setup.labels, "mix", lambda *_: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        setup.training_sentences(read_run(store / "model_primary"), store / "model_primary")


# ------------------------------------------------------------------- output


def test_only_evaluated_epochs_are_printed(folder, encoder, tmp_path, capsys):
    flags = [*small(folder, encoder), "--expert", "2", "--epochs", "9", "--repo", str(tmp_path)]
    train.main(flags)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    (path,) = tmp_path.glob("*/run.json")
    epochs = json.loads(path.read_text())["epochs"]
    evaluated = [epoch["number"] for epoch in epochs if epoch["validation_f1"] is not None]
    assert [int(line.split()[1]) for line in lines] == evaluated
    assert len(evaluated) < len(epochs) == 9 and evaluated[-1] == 9


def test_the_log_of_a_revision_has_the_final_reports(store):
    log = (store / "model_primary/log.txt").read_text()
    for split in ("Validation", "Test"):
        assert f"{split} Loss | Seqeval Accuracy" in log


def test_the_built_in_corpus_says_what_it_is_for(tmp_path, capsys):
    train.main(["--corpus", "sample:60", "--epochs", "1", "--repo", str(tmp_path)])
    assert "the built-in corpus is for trying nerc out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train.main(["--help"])
    assert "for trying nerc out" in " ".join(capsys.readouterr().out.split())


def test_tensorboard_opens_on_curves_and_compares_final_scores(store):
    events = EventAccumulator(str(store / "model_primary/logs")).Reload()
    groups = sorted({name.partition("/")[0] for name in events.Tags()["scalars"]})
    assert groups == ["train", "validation", "with_kept_weights"]  # in TensorBoard's order
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    compared = {metric.name.tag for metric in experiment.metric_infos}
    assert len(compared) == 6
    for name in compared:
        (event,) = events.Scalars(name)
        split, figure = name.partition("/")[2].split("_")
        assert event.value == pytest.approx(metrics[split][figure]) and event.step == 18


# ------------------------------------------------------------------- resume


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes(
    killed, folder, encoder, tmp_path, capsys
):
    repo = shutil.copytree(killed, tmp_path / "models")
    checkpoints = Checkpoints(repo / ".checkpoints/model_primary")
    tensors, progress, _ = checkpoints.read()
    checkpoints.write(tensors, progress | {"seconds": 3600.0})
    started = time.perf_counter()
    train.main([*small(folder, encoder), "--repo", str(repo), "--resume"])
    most = 3600 + time.perf_counter() - started
    printed = capsys.readouterr().out
    seconds = int(printed.partition(f"saved as {repo / 'model_primary'} after ")[2].split()[0])
    assert 3600 <= seconds <= most + 1
    run = json.loads((repo / "model_primary/run.json").read_text())
    assert 3600 <= run["seconds"] <= most + 0.05  # it is rounded


def test_a_run_with_flags_that_nerc_no_longer_has_is_resumed(
    killed, store, folder, encoder, tmp_path, capsys
):
    repo = shutil.copytree(killed, tmp_path / "models")
    path = repo / ".checkpoints/model_primary/run.json"
    run = json.loads(path.read_text())
    run["config"]["removed_flag"] = False
    path.write_text(json.dumps(run))
    train.main([*small(folder, encoder), "--repo", str(repo), "--resume"])
    assert "resumed after update" in capsys.readouterr().out


def test_other_settings_of_the_method_are_settings_of_the_run(folder):
    data, config = DataConfig(data="mixed", corpus=str(folder)), TrainConfig(recipe="strong")
    start = setup.prepare(data, NETWORK, config, Store("models"), FLOAT32)
    other = start.with_settings(type(start.settings)(expert_passes=100))
    assert len(other.method.sentences(other.training_set, other.settings)) >= 100 * 8
    assert start.description["config"] | {"epochs": 0} == other.description["config"] | {
        "epochs": 0
    }
