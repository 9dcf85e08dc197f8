"""Enlarged batches give the same results; on a GPU, training with graphs does, too."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from nerc.config import TrainConfig
from nerc.data import sources
from nerc.distributed import Session, Status, StopSignals
from nerc.errors import InputError
from nerc.model import encoding
from nerc.training import trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from cuda_graphs import GraphedTrainer, enlarge  # noqa: E402


@pytest.fixture
def encoded(model, tokenizer, folder):
    return encoding.encode_for(model, tokenizer, sources.load(str(folder), "train"))


def losses_and_gradients(model, batch):
    losses = trainer.summed_losses(model, batch, bf16=False)
    model.zero_grad()
    losses.sum().backward()
    return losses.detach(), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("sentences", [range(32), [3], [5, 2, 9]])
def test_an_enlarged_batch_has_the_losses_and_gradients_of_the_batch(model, encoded, sentences):
    assert model.lstm is not None
    batch = encoding.collate(encoded, sentences)
    large = enlarge(batch)
    losses, gradients = losses_and_gradients(model, batch)
    large_losses, large_gradients = losses_and_gradients(model, large)
    torch.testing.assert_close(large_losses, F.pad(losses, (0, 1)), atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, large_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_enlarged_batches_have_few_sizes(encoded):
    rng = np.random.default_rng(0)
    batches = [encoding.collate(encoded, rng.permutation(len(encoded))[:16]) for _ in range(40)]

    def sizes_of(some) -> set[tuple]:
        shapes = ((*b.input_ids.shape, *b.real_pieces.shape, *b.labels.shape) for b in some)
        return {(*shape, int(b.num_words.max())) for shape, b in zip(shapes, some, strict=True)}

    sizes = sizes_of(batches)
    large = sizes_of([enlarge(batch, step=32) for batch in batches])
    assert len(large) < len(sizes) / 2
    for batch in batches:
        more = enlarge(batch, step=32)
        assert len(more.real_pieces) % 64 == 0 and more.input_ids.shape[1] % 32 == 0
        assert len(more.real_pieces) - len(batch.real_pieces) < 64
        kept = more.input_ids.flatten()[more.real_pieces[: len(batch.real_pieces)]]
        assert kept.equal(batch.input_ids.flatten()[batch.real_pieces])
        assert more.labels[: len(batch.labels)].equal(batch.labels)
        assert more.labels[len(batch.labels) :].eq(encoding.NO_LABEL).all()


def train(model, encoded, trainer_class=trainer.Trainer, **values):
    settings = {"recipe": "strong", "epochs": 2, "batch_size": 8, "lr": 1e-3, "head_lr": 1e-2}
    config = TrainConfig(**settings, **values).resolved(hidden_size=32, num_layers=2)
    losses, accelerator = [], Accelerator()
    trained = trainer_class(
        model,
        trainer.TrainingData(encoded),
        config,
        Session(accelerator, StopSignals(accelerator), Status(None)),
        bf16=False,
        log=lambda name, value, _: losses.append(value) if name == "train/loss" else None,
    )
    list(trained.run())
    return losses, [p.detach().cpu().clone() for p in model.parameters()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_graphs_are_refused_without_a_gpu(model, encoded):
    with pytest.raises(InputError, match="need a CUDA GPU"):
        train(model, encoded, GraphedTrainer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to record graphs on")
def test_training_with_graphs_equals_training_without(model, encoded):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (losses, weights), (with_graphs, graphed_weights) = (
        (model.load_state_dict(before), train(model, encoded, each, keep="last"))[1]
        for each in (trainer.Trainer, GraphedTrainer)
    )
    assert with_graphs == pytest.approx(losses, rel=1e-3)
    for one, other in zip(weights, graphed_weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
