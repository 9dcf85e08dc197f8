"""What a run decides by measuring the machine: threads and precision."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import logged, refused, small
from transformers import BertConfig

import evaluate
import train
from nerc import hardware
from nerc.errors import InputError
from nerc.hardware import fewest_fast, threads_asked
from nerc.model.precision import Precision

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "cores, chosen",
    [(8, 8), (2, 2), (1, 1), (0.5, 1)],  # that are free of the 8 that the process may use
)
def test_threads_beyond_the_free_cores_are_not_started(cores, chosen):
    def seconds(num_threads: int) -> float:
        """Of a product: threads that wait for a core make the others wait."""
        waiting = max(0.0, num_threads - cores)
        return 1 / min(num_threads, cores) * (1 + waiting)

    assert fewest_fast(8, seconds) == chosen


@pytest.mark.parametrize(
    "environment, threads",
    [
        ({}, 0),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "x"}, 0),
        ({"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}, 0),  # torchrun's
        ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, 0),
        ({"OMP_NUM_THREADS": "3", "WORLD_SIZE": "2"}, 3),
    ],
)
def test_a_launchers_one_thread_is_told_from_a_persons(environment, threads):
    assert threads_asked(environment) == threads


def test_a_run_has_the_threads_that_a_person_asked_for(folder, encoder, tmp_path):
    flags = [flag for flag in small(folder, encoder) if flag not in ("--num-threads", "1")]
    command = [sys.executable, "train.py", *flags, "--epochs", "1", "--repo", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "model_primary/run.json").read_text())
    assert run["hardware"]["threads_per_process"] == 3


BERT = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}


@pytest.mark.parametrize("slow, fast", [("bf16", "float32"), ("float32", "bf16")])
def test_auto_is_the_precision_that_is_faster(slow, fast, monkeypatch):
    if not hardware.computes_bf16(torch.device("cpu")):
        pytest.skip("this processor does not compute in bf16")
    product = torch.nn.functional.linear

    def linear(x, weight, bias=None):
        is_low = torch.is_autocast_enabled("cpu")
        for _ in range(50 if is_low == (slow == "bf16") else 1):
            result = product(x, weight, bias)
        return result

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    precision = Precision("auto", Accelerator(cpu=True))
    with logged() as messages:
        assert precision.of(BertConfig(**BERT)) == precision.decided == fast
        precision.of(BertConfig(**BERT))  # measures once
    (message,) = messages
    assert f"auto is {fast}" in message
    assert precision.milliseconds[slow] > precision.milliseconds[fast] > 0


def test_measuring_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    Precision("auto", Accelerator(cpu=True)).of(BertConfig(**BERT))
    assert torch.rand(4).equal(expected)


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_auto_goes_on_in_the_precision_of_the_run_that_it_resumes(
    precision, killed, folder, encoder, tmp_path
):
    repo = shutil.copytree(killed, tmp_path / "models")
    run_folder = repo / ".checkpoints/model_primary"
    if not hardware.computes_bf16(torch.device("cpu")):
        pytest.skip("this processor does not compute in bf16")
    before = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps(before | {"precision": precision}))
    flags = [*small(folder, encoder), "--precision", "auto", "--repo", str(repo), "--resume"]
    train.main(flags)
    assert json.loads((repo / "model_primary/run.json").read_text())["precision"] == precision


def test_a_revision_is_evaluated_in_the_measured_precision(store, monkeypatch, caplog):
    monkeypatch.setattr(Precision, "_measure", lambda *_: ("bf16", {"float32": 2.0, "bf16": 1.0}))
    flags = ["--revision", "model_primary", "--repo", str(store), "--precision", "auto"]
    evaluate.main(flags)
    assert any("computed in bf16" in message for message in caplog.messages)


def test_bf16_without_hardware_is_refused(store, monkeypatch, capsys):
    monkeypatch.setattr("nerc.model.precision.computes_bf16", lambda _: False)
    assert Precision("auto", Accelerator(cpu=True)).of(BertConfig(**BERT)) == "float32"
    with pytest.raises(InputError, match="does not compute in bf16"):
        Precision("bf16", Accelerator(cpu=True))
    flags = ("--revision", "model_primary", "--repo", store, "--precision", "bf16")
    assert "--precision bf16" in refused(evaluate, capsys, *flags)
