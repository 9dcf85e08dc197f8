"""The plan, the schedule, the update, checkpoints, and that a model learns."""

import math
import re
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import logged
from transformers import set_seed

from nerc import progress
from nerc.cli import start_logging
from nerc.config import TrainConfig
from nerc.data import sources
from nerc.distributed import Session, Status, StopSignals
from nerc.errors import InputError, Interrupted
from nerc.evaluation import evaluator
from nerc.model import encoding
from nerc.training import batch_plan, trainer
from nerc.training.checkpoints import Checkpoints
from nerc.training.trainer import CheckpointSchedule, TrainingData


def config(**values) -> TrainConfig:
    defaults = {"recipe": "strong", "epochs": 2, "batch_size": 8, "lr": 1e-3, "head_lr": 1e-2}
    return TrainConfig(**(defaults | values)).resolved(hidden_size=32, num_layers=2)


def start(model, encoded, settings, log=None, stop_at=0, sentences=None) -> trainer.Trainer:
    data = TrainingData(encoded, sentences, location=lambda sentence: f"sentence {sentence}")
    accelerator = Accelerator()
    session = Session(accelerator, StopAt(accelerator, stop_at), Status(None))
    return trainer.Trainer(model, data, settings, session, bf16=False, log=log)


def fit(model, encoded, settings, reports=(), log=None):
    scores, reports = reports, iter(reports)
    trained = start(model, encoded, settings, log)
    return list(trained.run((lambda: next(reports)) if scores else None))


class StopAt(StopSignals):
    """A stop signal that comes during an update, or during the evaluation of an epoch; 0: never."""

    def __init__(self, accelerator, update: int) -> None:
        super().__init__(accelerator)
        self.left = update

    def any_rank_signalled(self) -> int:
        self.left -= 1
        return 10 if self.left == 0 else 0


@pytest.fixture
def encoded(model, tokenizer, folder):
    return encoding.encode_for(model, tokenizer, sources.load(str(folder), "train"))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_plan_holds_every_sentence_once_and_depends_on_seed_and_epoch_alone():
    one = batch_plan.plan(103, 10, seed=3, epoch=2)
    assert sorted(np.concatenate(one)) == list(range(103))
    assert [len(update) for update in one] == [10] * 10 + [3]
    again = batch_plan.plan(103, 10, seed=3, epoch=2)
    assert all(a.tolist() == b.tolist() for a, b in zip(one, again, strict=True))
    for other in (batch_plan.plan(103, 10, 3, 3), batch_plan.plan(103, 10, 4, 2)):
        assert one[0].tolist() != other[0].tolist()


def test_the_learning_rate_rises_and_falls_to_nearly_nothing():
    def factor(update, schedule="linear"):
        return trainer.learning_rate_factor(update, 100, 0.1, schedule)

    assert [factor(0), factor(4), factor(9), factor(10)] == [0.1, 0.5, 1.0, 1.0]
    assert factor(55) == 0.5 and factor(99) == pytest.approx(1 / 90)
    assert factor(0, "constant") == 0.1 and factor(99, "constant") == 1.0
    assert trainer.learning_rate_factor(0, 3, 0.0, "linear") == 1.0


def test_eight_sentences_are_learnt_by_heart(model, tokenizer, folder):
    corpus = sources.load(str(folder), "train").select(range(8))
    few = encoding.encode_for(model, tokenizer, corpus)
    epochs = fit(model, few, config(epochs=60, batch_size=2, keep="last"))
    assert epochs[-1].loss < 0.05 < epochs[0].loss
    assert evaluator.evaluate(model, corpus, few).report.f1 == 1.0


def test_the_same_seed_gives_the_same_weights(model, encoded):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    results = []
    for seed in (1, 1, 2):
        model.load_state_dict(before)
        set_seed(seed)
        fit(model, encoded, config(seed=seed, epochs=1))
        results.append(weights(model))
    one, again, other = results
    assert all(one[name].equal(again[name]) for name in one)
    assert any(not one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("clip", [0.0, 0.5, 1000.0])
def test_an_update_is_the_mean_over_its_words_however_they_lie(model, encoded, clip):
    """One plain SGD step equals that of cross entropy averaged over the batch's words, by hand.

    Gradients whose norm is above clip are shortened to it.
    """
    (sentences,) = batch_plan.plan(len(encoded), len(encoded), seed=0, epoch=1)
    rows, labels = [], []
    for sentence in sentences:
        batch = encoding.collate(encoded, [sentence])
        rows.append(model(**batch.inputs(torch.device("cpu"))).logits)
        labels.append(batch.labels)
    loss = torch.nn.functional.cross_entropy(torch.cat(rows), torch.cat(labels))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    assert 0.5 < norm < 1000
    share = clip / norm if clip == 0.5 else 1.0
    wanted = {
        name: p.detach() - 0.1 * share * gradient
        for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True)
    }
    sgd = {"recipe": "paper", "lr": 0.1, "head_lr": 0.1, "epochs": 1, "clip": clip}
    (epoch,) = fit(model, encoded, config(**sgd, batch_size=len(encoded), keep="last"))
    assert epoch.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, weight in weights(model).items():
        torch.testing.assert_close(weight, wanted[name], atol=1e-5, rtol=1e-4)


def test_only_rows_that_are_read_are_trained_and_they_learn_as_ever(model, encoded, monkeypatch):
    """Sentences of a training on a part of the corpus read a part of the embedding table."""
    before, results = weights(model), []
    sentences = np.arange(5)
    for trains_whole in (False, True):
        if trains_whole:
            monkeypatch.setattr(trainer.TrainedRows, "of", lambda *_: None)
        model.load_state_dict(before)
        trained = start(model, encoded, config(epochs=2, keep="last"), sentences=sentences)
        assert (trained.rows is None) == trains_whole
        list(trained.run())
        results.append(weights(model))
    by_row, whole = results
    (name,) = (name for name in before if "word_embeddings" in name)
    read = set(encoded.distinct_pieces(sentences).tolist()) | {model.config.pad_token_id}
    rows = zip(by_row[name], whole[name], before[name], strict=True)
    for row, (one, other, first) in enumerate(rows):
        if row in read:
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
        else:
            assert one.equal(first)
    assert 5 < len(read) < len(before[name])
    assert not by_row[name].equal(before[name])
    for other in set(before) - {name}:
        torch.testing.assert_close(by_row[other], whole[other], atol=1e-6, rtol=1e-5)
    assert [*by_row] == [*before]


def test_the_table_is_whole_whenever_it_is_read(model, encoded):
    """An evaluation between two epochs, and a checkpoint, see what the rows have learnt."""
    table, written = model.bert.embeddings.word_embeddings, []

    def write(tensors, _):
        written.append({name: tensor.clone() for name, tensor in tensors.items()})

    name = "bert.embeddings.word_embeddings.weight"
    trained = start(model, encoded, config(epochs=2, keep="last"))
    rows = trained.rows

    def evaluate():
        assert table.weight[rows.read].equal(rows.rows)
        return Score(0.5)

    list(trained.run(evaluate, trainer.CheckpointSchedule(write, num_updates=1)))
    sums = {tensors[f"model.{name}"].sum().item() for tensors in written}
    assert len(sums) == len(written) == 18
    assert written[-1][f"model.{name}"].equal(table.weight)
    assert written[-1][f"optimizer.exp_avg.{name}"].shape == rows.rows.shape
    assert model.bert.embeddings.word_embeddings is table and table.weight.requires_grad


@pytest.mark.parametrize("padding", [None, 0, 29])
def test_the_row_of_padding_is_among_those_read_and_collects_no_gradient(model, encoded, padding):
    table = model.bert.embeddings.word_embeddings
    table.padding_idx, model.config.pad_token_id = padding, 0
    trained = start(model, encoded, config(), sentences=np.arange(2))
    rows = trained.rows
    assert {0, padding or 0} <= {*rows.read.tolist()} and 29 not in encoded.distinct_pieces(
        np.arange(2)
    )
    ids = torch.tensor([0, 29] if padding else [0])
    with trained.training_mode():
        rows(ids).sum().backward()
        learns = rows.rows.grad[rows.places[ids]].any(dim=1).tolist()
    assert learns == [number != padding for number in ids.tolist()]


def test_a_checkpoint_of_the_whole_table_is_refused(model, encoded, monkeypatch):
    """Earlier versions of nerc trained every row."""
    written = []
    with monkeypatch.context() as earlier:
        earlier.setattr(trainer.TrainedRows, "of", lambda *_: None)
        trained = start(model, encoded, config(), stop_at=3)
        schedule = trainer.CheckpointSchedule(lambda *checkpoint: written.append(checkpoint))
        with pytest.raises(Interrupted):
            list(trained.run(schedule=schedule))
    wanted = r"has [\d,]+ rows of bert\.embeddings\.word_embeddings\.weight, and this version"
    with pytest.raises(InputError, match=wanted):
        start(model, encoded, config()).restore(*written[0])


def test_words_without_a_label_teach_nothing(model, encoded):
    encoded.labels[:] = encoding.NO_LABEL
    with pytest.raises(InputError, match="no word of the training sentences"):
        fit(model, encoded, config(epochs=1))
    encoded.labels[0] = 0
    before = weights(model)
    updates = batch_plan.plan(len(encoded), 8, seed=0, epoch=1)
    place = next(i for i, update in enumerate(updates) if 0 in update)
    losses = []
    fit(
        model,
        encoded,
        config(recipe="paper", epochs=1, lr=1e-9, head_lr=1e-9),
        log=lambda name, value, update: losses.append(value) if name == "train/loss" else None,
    )
    # The loss of its update is the one labelled word's; of those without a label it is 0.
    assert [loss > 0 for loss in losses] == [i == place for i in range(len(updates))]
    for name, weight in weights(model).items():
        torch.testing.assert_close(weight, before[name], atol=1e-6, rtol=0)


def test_groups_have_their_rates_and_only_matrices_decay(model):
    settings = config(lr=1e-4, head_lr=1e-2, weight_decay=0.5)
    optimizer = trainer.make_optimizer(dict(model.named_parameters()), "bert", settings)
    names = {id(p): name for name, p in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["peak_lr"] == (1e-4 if name.startswith("bert.") else 1e-2)
            assert (group["weight_decay"] > 0) == ("bias" not in name and "Norm" not in name)
    assert seen == set(names.values())


def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_above(model):
    settings = config(lr=1e-4, head_lr=1e-2, layer_decay=0.5)
    parameters = dict(model.named_parameters())
    rates = {
        id(parameter): group["peak_lr"]
        for group in trainer.make_optimizer(parameters, "bert", settings).param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(parameters)
    shares = {"bert.embeddings": 0.25, "bert.encoder.layer.0": 0.5, "bert.encoder.layer.1": 1.0}
    for name, parameter in parameters.items():
        share = next((share for start, share in shares.items() if name.startswith(start)), 100.0)
        assert rates[id(parameter)] == pytest.approx(1e-4 * share), name


def test_the_layer_of_a_parameter_is_that_of_its_name():
    """Names of BERT, ModernBERT, DeBERTa and ALBERT, whose layers are one."""
    for name, layer in {
        "bert.embeddings.LayerNorm.bias": -1,
        "bert.encoder.layer.11.output.dense.weight": 11,
        "model.embeddings.tok_embeddings.weight": -1,
        "model.layers.3.mlp.Wi.weight": 3,
        "model.final_norm.weight": math.inf,
        "deberta.encoder.rel_embeddings.weight": -1,
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.bias": 0,
    }.items():
        assert trainer.layer_of(name) == layer


class Score:
    def __init__(self, f1):
        self.loss, self.accuracy, self.f1 = 1.0, 1.0, f1


@pytest.mark.parametrize(
    "keep, kept", [("best", [True, True, False]), ("last", [False, False, True])]
)
def test_the_epoch_that_keep_names_is_kept(model, encoded, keep, kept):
    seen = []
    settings = config(epochs=3, keep=keep)

    def scores():
        for f1 in (0.1, 0.3, 0.2):
            seen.append(weights(model))
            yield Score(f1)

    epochs = fit(model, encoded, settings, scores())
    assert [epoch.kept for epoch in epochs] == kept
    chosen = seen[1 if keep == "best" else 2]
    assert all(w.equal(chosen[name]) for name, w in weights(model).items())


@pytest.mark.parametrize("f1, kept", [((0.3, 0.2, 0.1), 3), ((0.1, 0.2, 0.3), 7)])
def test_reports_take_no_longer_than_training(model, encoded, f1, kept):
    scores = iter([Score(x) for x in f1])
    trained = start(model, encoded, config(epochs=7))
    epochs = list(trained.run(lambda: next(scores), evaluate_every=3))
    assert [epoch.number for epoch in epochs if epoch.validation] == [3, 6, 7]
    assert [epoch.number for epoch in epochs if epoch.kept][-1] == kept
    assert next(scores, None) is None
    # A word of prediction is taken to cost a quarter of one of training.
    assert [trainer.epochs_between_reports(100, n) for n in (0, 400, 401, 2000)] == [1, 1, 2, 5]


def test_the_curves_are_logged(model, encoded):
    found = []
    fit(model, encoded, config(epochs=2), [Score(0.5), Score(0.6)], lambda *row: found.append(row))
    assert {name for name, *_ in found} == {
        "train/loss",
        "train/learning_rate",
        "train/words_per_second",
        "validation/loss",
        "validation/accuracy",
        "validation/f1",
    }
    per_epoch = math.ceil(len(encoded) / 8)
    assert [u for n, _, u in found if n == "validation/f1"] == [per_epoch, 2 * per_epoch]
    for name in ("train/loss", "train/learning_rate"):
        assert [u for n, _, u in found if n == name] == list(range(1, 2 * per_epoch + 1))
    assert [u for n, _, u in found if n == "train/words_per_second"] == [9, 10, 18]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_sentences(model, encoded):
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    first = batch_plan.plan(len(encoded), 8, seed=0, epoch=1)[0]
    with pytest.raises(InputError) as error:
        fit(model, encoded, config())
    message = str(error.value)
    assert message.startswith("update 1: the loss is nan, on 8 sentences: ")
    assert all(f"sentence {sentence}" in message for sentence in first)


# ------------------------------------------------------------------- the model afterwards


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fault", ["none", "an error", "a signal", "a loss that is not finite"])
def test_after_a_training_the_model_is_in_the_mode_from_before(model, encoded, training, fault):
    model.train(training)
    table = model.bert.embeddings.word_embeddings
    if fault == "a loss that is not finite":
        with torch.no_grad():
            model.classifier.bias[0] = float("nan")
    trained = start(model, encoded, config(), stop_at=3 if fault == "a signal" else 0)

    def evaluate():
        assert model.training and model.bert.embeddings.word_embeddings is trained.rows
        if fault == "an error":
            raise ZeroDivisionError
        return Score(0.5)

    faults = {
        "none": nullcontext(),
        "an error": pytest.raises(ZeroDivisionError),
        "a signal": pytest.raises(Interrupted),
        "a loss that is not finite": pytest.raises(InputError, match="the loss is nan"),
    }
    with faults[fault]:
        list(trained.run(evaluate))
    assert model.training == training and table.weight.grad is None
    assert model.bert.embeddings.word_embeddings is table and table.weight.requires_grad
    assert all(module.training == training for module in model.modules())


# ------------------------------------------------------------------- progress


def test_without_a_terminal_a_line_says_how_far_it_is(model, encoded, monkeypatch):
    start_logging()
    monkeypatch.setattr(progress, "PROGRESS_EVERY", 0.0)
    with logged() as messages:
        fit(model, encoded, config(epochs=1))
    assert len(messages) == 8  # not after the last update, which ends it
    pattern = r"training: update (\d) of 9 \((\d+) %\), [\d,]+ words/s, \d+ s left"
    found = [re.fullmatch(pattern, message) for message in messages]
    assert [int(match[1]) for match in found] == list(range(1, 9))
    assert found[2][2] == "33"
    monkeypatch.setattr(progress, "PROGRESS_EVERY", 60.0)
    with logged() as messages:
        fit(model, encoded, config(epochs=1))
    assert messages == []


def test_a_terminal_has_a_bar_instead_of_lines(model, encoded, monkeypatch, capsys):
    start_logging()
    monkeypatch.setattr(progress, "PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with logged() as messages:
        fit(model, encoded, config(epochs=1))
    assert messages == [] and "training:" in capsys.readouterr().err


# ------------------------------------------------------------------- micro-batches


def test_micro_batches_hold_the_share_once_and_no_more_words_than_asked(encoded):
    share = np.arange(len(encoded))[::-1]
    for num_words in (1, 20, 50, 10**6):
        pieces = batch_plan.micro_batches(share, encoded, num_words)
        assert np.concatenate(pieces).tolist() == share.tolist()
        words = [int(encoded.num_words(piece).sum()) for piece in pieces]
        # A sentence of more words than asked for is a piece of its own.
        assert all(w <= num_words or len(p) == 1 for w, p in zip(words, pieces, strict=True))
        # Greedy: no two neighbours would have fitted into one.
        firsts = [int(encoded.num_words(piece[:1])[0]) for piece in pieces[1:]]
        assert all(w + f > num_words for w, f in zip(words, firsts, strict=False))
    assert len(batch_plan.micro_batches(share, encoded, 0)) == 1
    assert batch_plan.micro_batches(share[:0], encoded, 20) == []


def test_micro_batches_change_no_result(model, encoded):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    results = []
    for num_words in (0, 1, 40):
        model.load_state_dict(before)
        losses = []
        settings = config(epochs=1, micro_batch_words=num_words, optimizer="sgd", lr=0.1)
        fit(model, encoded, settings, log=lambda *row, losses=losses: losses.append(row))
        results.append(([v for n, v, _ in losses if n == "train/loss"], weights(model)))
    (whole, one), *others = results
    for losses, other in others:
        assert losses == pytest.approx(whole, rel=1e-4) and len(losses) == len(whole)
        for name in one:
            torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------- stop, checkpoint, go on


def with_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "momentum": 0.9}])
@pytest.mark.parametrize("update", [1, 9, 13, 27])
def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_stopped(
    model, encoded, tmp_path, update, settings
):
    with_dropout(model)
    settings = config(epochs=3, **settings)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    scores = [0.1, 0.3, 0.2]
    rows = []
    whole = fit(model, encoded, settings, map(Score, scores), lambda *row: rows.append(row))
    wanted = weights(model)

    model.load_state_dict(before)
    checkpoints = Checkpoints(tmp_path)
    reports = map(Score, scores)
    seen = []
    first = start(model, encoded, settings, lambda *row: seen.append(row), stop_at=update)
    schedule = CheckpointSchedule(checkpoints.write)
    with pytest.raises(Interrupted):
        list(first.run(lambda: next(reports), schedule))

    for parameter in model.parameters():
        parameter.data.fill_(7)
    second = start(model, encoded, settings, lambda *row: seen.append(row))
    tensors, progress, notes = checkpoints.read()
    assert not notes
    second.restore(tensors, progress)
    assert second.update == update
    list(second.run(lambda: next(reports), schedule))
    assert all(w.equal(wanted[name]) for name, w in weights(model).items())
    same = [
        (e.number, e.loss, e.validation, e.kept) == (w.number, w.loss, w.validation, w.kept)
        for e, w in zip(second.epochs, whole, strict=True)
    ]
    assert same == [True] * 3
    speed = "train/words_per_second"
    assert [r for r in seen if r[0] != speed] == [r for r in rows if r[0] != speed]
    assert [r[2] for r in seen if r[0] == speed] == [r[2] for r in rows if r[0] == speed]


def test_checkpoints_come_every_so_many_updates_or_seconds(model, encoded, tmp_path):
    def written(*interval) -> list[int]:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.clear()
        updates = []

        def write(tensors, progress) -> None:
            updates.append(progress["update"])
            checkpoints.write(tensors, progress)

        trained = start(model, encoded, config(epochs=2))
        list(trained.run(lambda: Score(0.5), CheckpointSchedule(write, *interval)))
        return updates

    assert written(5, math.inf) == [5, 10, 15]
    assert written(10**6, 0.0) == [9, 10, 18]  # where losses are read
    assert written(10**6, math.inf) == []
