"""Runs are exact under any launch: tests with real processes, signals and kills."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed.run
from accelerate import Accelerator
from accelerate.commands import launch
from accelerate.utils.launch import _filter_args, prepare_multi_gpu_env
from conftest import SAMPLE, TORCHRUN, logged, same_weights, small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from nerc import distributed
from nerc.data import sources
from nerc.errors import InputError, Interrupted

ROOT = Path(__file__).parents[1]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]


def begin(*command, **env: str) -> subprocess.Popen:
    """Start a command in the project's folder, in a process group of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | env
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen, timeout: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def done(*command, **env: str) -> str:
    """What a command that must succeed printed."""
    code, out, err = end(begin(*command, **env))
    assert code == 0, out + err
    return out


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, end(process)
        time.sleep(0.002)


def children(process: subprocess.Popen) -> list[int]:
    """Process ids of the ranks that a launcher started, rank 0 first."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return sorted(int(pid) for pid in listed.read_text().split())


def checkpoints(repo: Path) -> list[str]:
    return sorted(path.name for path in repo.glob(".checkpoints/*/update_*"))


def curve(repo: Path, name: str) -> list[tuple[int, float]]:
    logs = str(repo / "model_primary/logs")
    events = EventAccumulator(logs, purge_orphaned_data=False).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def metrics(repo: Path) -> dict:
    return json.loads((repo / "model_primary/metrics.json").read_text())


# ------------------------------------------------------------------- any number of processes


WITHOUT_DROPOUT = [*SAMPLE.split(), "--dropout", "0", "--epochs", "2"]


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    """A store with the revision of a run of one process, two epochs without dropout."""
    repo = tmp_path_factory.mktemp("by_one")
    train.main([*WITHOUT_DROPOUT, "--repo", str(repo)])
    return repo


# By default, test_a_run_continues_with_the_same_batches_on_fewer_processes and
# test_micro_batches_change_no_result, in one process, have the same.
@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [[*TORCHRUN, "3", "train.py"], [sys.executable, "train.py", "--micro-batch-words", "60"]],
    ids=["three processes", "four micro-batches"],
)
def test_processes_and_micro_batches_do_not_change_an_update(by_one, tmp_path, command):
    out = done(*command, *WITHOUT_DROPOUT, "--repo", tmp_path)
    assert out.count("epoch  1") == 1, "only the main process speaks"
    losses = dict(curve(by_one, "train/loss"))
    assert list(losses) == list(range(1, 15))
    assert dict(curve(tmp_path, "train/loss")) == pytest.approx(losses, rel=1e-4)
    found, wanted = metrics(tmp_path), metrics(by_one)
    for split in ("validation", "test"):
        loss = wanted[split].pop("loss")
        assert found[split].pop("loss") == pytest.approx(loss, rel=1e-4)
        assert found[split]["sentences"] == len(sources.load("sample:103", split))
    assert found == wanted


def test_accelerate_launch_of_several_processes_needs_no_gpu(folder, encoder, tmp_path):
    flags = [*small(folder, encoder), "--epochs", "1", "--repo", tmp_path]
    several = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    assert "2 processes on cpu" in done(*ACCELERATE, *several, "train.py", *flags)


CONFIG_FILE = ["--config_file", str(ROOT / "accelerate_config.yaml")]


def processes_launched(monkeypatch, *flags: str, num_gpus: int) -> int:
    """How many processes `accelerate launch` starts on a machine with so many GPUs.

    Runs Accelerate's and torchrun's own code, up to where torchrun starts the processes.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(launch, "default_config_file", "/nobody/has/configured/accelerate")
    parser = launch.launch_command_parser()
    args, *_ = launch._validate_launch_command(parser.parse_args([*flags, "train.py"]))
    if not args.multi_gpu:
        return 1  # launch.simple_launcher's
    prepare_multi_gpu_env(args)
    config, _, script = torch.distributed.run.config_from_args(
        _filter_args(args, torch.distributed.run.get_args_parser(), ["train.py"])
    )
    assert "train.py" in script and config.min_nodes == config.max_nodes == 1
    return config.nproc_per_node


def test_accelerate_starts_one_process_for_each_gpu(monkeypatch):
    def launched(*flags: str) -> int:
        return processes_launched(monkeypatch, *flags, num_gpus=8)

    assert launched(*CONFIG_FILE, "--num_processes", "8") == 8
    assert launched() == 8
    assert launched(*CONFIG_FILE, "--num_processes", "1") == 1
    with pytest.raises(ValueError, match="manually pass in `--num_processes`"):
        launched(*CONFIG_FILE)


def test_the_configuration_file_starts_as_many_processes_as_it_is_told(tmp_path):
    """A real launch; the script is not ours, so that eight processes take little."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib\n"
        "name = os.environ['RANK'] + '_of_' + os.environ['WORLD_SIZE']\n"
        "pathlib.Path(__file__).with_name(name).touch()\n"
    )
    several = ["--num_processes", "8", "--main_process_port", "0"]
    done(*ACCELERATE, *CONFIG_FILE, *several, script)
    ranks = sorted(path.name for path in tmp_path.iterdir() if path != script)
    assert ranks == [f"{rank}_of_8" for rank in range(8)]


@pytest.mark.slow  # test_accelerate_launch_uses_every_core launches one process, too
def test_the_configuration_file_works_without_a_gpu(tmp_path):
    flags = [*SAMPLE.split(), "--epochs", "1", "--repo", tmp_path]
    one = ["--num_processes", "1", "--main_process_port", "0"]
    assert "1 process on " in done(*ACCELERATE, *CONFIG_FILE, *one, "train.py", *flags)


@pytest.mark.parametrize(
    "num_gpus, num_used, num_machines, wanted",
    [
        (8, 1, 1, "7 of this machine's 8 GPUs are idle.*accelerate launch .*--num_processes 8$"),
        (8, 0, 1, "8 of this machine's 8 GPUs are idle"),
        (4, 2, 3, "2 of this machine's 4 GPUs .* --num_processes 12 --num_machines 3$"),
        (8, 8, 1, None),
        (1, 1, 1, None),
        (1, 2, 1, None),
        (0, 0, 1, None),
    ],
)
def test_idle_gpus_are_told_with_the_command_that_uses_them(
    num_gpus, num_used, num_machines, wanted
):
    note = distributed.idle_gpus(num_gpus, num_used, num_machines)
    assert note is None if wanted is None else re.search(wanted, note)


@pytest.mark.parametrize(
    "started, told",
    [("with distributed.session(None): pass", 1), ("distributed.start(uses_every_gpu=False)", 0)],
)
def test_a_run_that_leaves_gpus_idle_says_so_once(started, told):
    code = f"""
import torch
from nerc import cli, distributed
torch.cuda.device_count = lambda: 8
cli.start_logging(quiet=True)
{started}
"""
    assert done(sys.executable, "-c", code).count("GPUs are idle") == told


# ------------------------------------------------------------------- launches that go wrong


def test_accelerate_that_starts_one_process_for_two_is_refused(folder, encoder, tmp_path):
    flags = [*small(folder, encoder), "--repo", tmp_path / "models"]
    code, _, err = end(begin(*ACCELERATE, "--cpu", "--num_processes", "2", "train.py", *flags))
    assert code and "train.py: error: accelerate launch was asked for several processes" in err
    assert "torchrun --nproc_per_node" in err and not (tmp_path / "models").exists()


def test_accelerates_precision_is_ignored():
    code = "from nerc import distributed; print(distributed.start().mixed_precision)"
    environment = os.environ | {"ACCELERATE_MIXED_PRECISION": "bf16"}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "no\n"


BY_TORCHRUN = {"WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "a"}


@pytest.mark.parametrize(
    "environment, asked",
    [
        ({}, 1),
        ({"MASTER_ADDR": "node1", "MASTER_PORT": "1"}, 1),  # a template's, for python train.py
        ({"ACCELERATE_MIXED_PRECISION": "no"}, 1),
        (BY_TORCHRUN | {"ACCELERATE_MIXED_PRECISION": "no"}, 4),
        (BY_TORCHRUN | {"SLURM_STEP_NUM_TASKS": "2"}, 4),
        # A task for each process.
        ({"SLURM_STEP_NUM_TASKS": "4", "WORLD_SIZE": "4", "MASTER_ADDR": "a"}, 4),
        ({"OMPI_COMM_WORLD_SIZE": "3", "MASTER_ADDR": "a"}, 3),
        ({"SLURM_STEP_NUM_TASKS": "1"}, 1),
    ],
)
def test_how_many_processes_were_launched(environment, asked):
    assert distributed._num_processes_asked(environment) == asked


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_STEP_NUM_TASKS": "2"},
        {"SLURM_STEP_NUM_TASKS": "2", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1"},
    ],
)
def test_slurm_tasks_that_do_not_know_of_each_other_are_refused(environment):
    with pytest.raises(InputError, match="srun started 2 tasks"):
        distributed._num_processes_asked(environment)


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"WORLD_SIZE": "2"}, "no MASTER_ADDR says where the processes meet"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', wanted a number"),
    ],
)
def test_an_incomplete_environment_is_refused(environment, message):
    with pytest.raises(InputError, match=message):
        distributed._num_processes_asked(environment)


# ------------------------------------------------------------------- signals


def test_a_signal_to_any_process_ends_the_run_and_resume_continues_exactly(by_two, tmp_path):
    flags = [*SAMPLE.split(), "--epochs", "8", "--checkpoint-every", "5"]
    status = tmp_path / "status.json"
    two = [*TORCHRUN, "2", "train.py", *flags]
    repo = tmp_path / "cut"
    run = begin(*two, "--repo", repo, "--status", status)
    wait_for(lambda: checkpoints(repo), run)
    os.kill(children(run)[1], signal.SIGUSR1)  # one of them hears it, both end
    code, _, err = end(run)
    found = json.loads(status.read_text())
    assert code and found["state"] == "interrupted" and found["updates"] == 56
    said = f"interrupted by SIGUSR1: its checkpoint is of update {found['update']}, in {repo}"
    assert said in err
    assert err.count("interrupted by") == 1
    assert checkpoints(repo)[-1] == f"update_{found['update']:07d}.safetensors"

    out = done(*two, "--repo", repo, "--status", status, "--resume")
    assert f"resumed after update {found['update']} of 56" in out
    assert json.loads(status.read_text())["state"] == "finished"
    assert same_weights(by_two, repo)
    for name in ("train/loss", "validation/f1"):
        assert curve(repo, name) == curve(by_two, name)
    assert [entry.name for entry in repo.iterdir()] == ["model_primary"]


def test_a_run_continues_with_the_same_batches_on_fewer_processes(by_one, tmp_path, capsys):
    flags = [*WITHOUT_DROPOUT, "--checkpoint-every", "1", "--repo", tmp_path]
    run = begin(*TORCHRUN, "2", "train.py", *flags)
    wait_for(lambda: checkpoints(tmp_path), run)
    os.kill(children(run)[0], signal.SIGTERM)
    code, _, err = end(run)
    assert code and "interrupted by SIGTERM" in err
    train.main([*map(str, flags), "--resume"])
    out = capsys.readouterr().out
    assert "it ran in 2 processes and continues in 1 process: the same batches" in out
    losses = dict(curve(by_one, "train/loss"))
    assert dict(curve(tmp_path, "train/loss")) == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("when", ["while it loads", "while it trains"])
def test_ctrl_c_says_how_to_continue(tmp_path, when):
    repo = tmp_path / "models"
    flags = [*SAMPLE.split(), "--epochs", "50", "--repo", repo, "--status", tmp_path / "status"]
    if when == "while it trains":
        flags += ["--checkpoint-every", "1"]
    run = begin(sys.executable, "train.py", *flags)
    wait_for(
        lambda: checkpoints(repo) or (when == "while it loads" and any(tmp_path.iterdir())), run
    )
    os.kill(run.pid, signal.SIGINT)
    code, _, err = end(run)
    assert code == 130 and "Traceback" not in err and "train.py: interrupted by SIGINT: " in err
    assert json.loads((tmp_path / "status").read_text())["state"] == "interrupted"
    if when == "while it trains":
        assert "continue with the same command and --resume" in err and checkpoints(repo)
    else:
        assert "nothing was saved" in err and not repo.exists()


def test_a_run_continues_when_the_reader_of_its_output_goes_away(folder, encoder, tmp_path):
    flags = [*small(folder, encoder), "--repo", tmp_path / "models"]
    run = begin(sys.executable, "train.py", *flags)
    run.stdout.close()
    with run.stderr:
        err = run.stderr.read()
    assert run.wait(timeout=60) == 0, err
    assert (tmp_path / "models/model_primary/metrics.json").exists()


@pytest.mark.parametrize(
    "handler, stops", [(signal.SIG_DFL, True), (signal.SIG_IGN, False)], ids=["plain", "nohup"]
)
def test_a_terminal_that_goes_away_stops_the_run_unless_nohup_says_otherwise(handler, stops):
    before = signal.signal(signal.SIGHUP, handler)  # the tests themselves may run under nohup
    try:
        with distributed.StopSignals(Accelerator(cpu=True)) as stop:
            stop.defer()
            signal.raise_signal(signal.SIGHUP)
            assert stop.any_rank_signalled() == (signal.SIGHUP if stops else 0)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    clock = [0.0]  # its own, since a busy machine may take a second between two lines
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    before = signal.getsignal(signal.SIGINT)
    with distributed.StopSignals(Accelerator(cpu=True)) as stop:
        stop.defer()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the launcher passes on what the terminal sent
        assert stop.any_rank_signalled() == signal.SIGINT
        clock[0] = 1.1
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_between_updates_acts_at_once_and_saves_first():
    saved = []
    with distributed.StopSignals(Accelerator(cpu=True)) as stop:
        stop.defer()
        with pytest.raises(Interrupted), stop.interruptible(lambda: saved.append("during")):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted), stop.interruptible(lambda: saved.append("before")):
            raise AssertionError("must not begin")
    assert saved == ["during", "before"]


# ------------------------------------------------------------------- a process that dies


LOST = [
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:9",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:589] Read error [::1]:9: "
    "Connection reset by peer",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:374] writev [::1]:54172: Broken pipe",
    "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or "
    "crash?",
    "NCCL error in: ProcessGroupNCCL.cpp:3763, remote process exited or there was a network error, "
    "NCCL version 2.28.8\nncclRemoteError: A call failed possibly due to a network error or a "
    "remote process exiting prematurely.",
    "NCCL error in: ProcessGroupNCCL.cpp:1275, internal error, NCCL version 2.14.3\n"
    "ncclInternalError: Internal check failed.\nLast error:\n"
    "Net : Connection closed by remote peer",
]
NOT_LOST = [
    "NCCL error in: NCCLUtils.hpp:268, unhandled cuda error, NCCL version 2.21.5\n"
    "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 "
    "'out of memory'",
    "NCCL error in: ProcessGroupNCCL.cpp:1287, invalid usage, NCCL version 2.17.1\n"
    "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.",
    "Gloo connectFullMesh failed with [/gloo/gloo/transport/tcp/pair.cc:144] no error",
    "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for "
    "recv operation to complete",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
]


@pytest.fixture
def session_of_two(monkeypatch):
    """A session that believes to have a second process; torch's functions say so, not ours."""
    stop = distributed.StopSignals(Accelerator(cpu=True))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    return stop


@pytest.mark.parametrize("text", LOST)
def test_a_lost_connection_is_one_line_and_its_cause_is_logged(session_of_two, text):
    cause = RuntimeError(text)
    with logged() as messages, pytest.raises(InputError, match="another process") as error:
        with distributed._lost_connections(session_of_two):
            raise cause
    assert error.value.__cause__ is cause and messages == [f"RuntimeError: {text}"]


@pytest.mark.parametrize("text", NOT_LOST)
def test_other_errors_of_nccl_and_gloo_stay_what_they_are(session_of_two, text):
    cause = RuntimeError(text)
    with logged() as messages, pytest.raises(RuntimeError) as error:
        with distributed._lost_connections(session_of_two):
            raise cause
    assert error.value is cause and messages == []


def test_after_a_signal_between_updates_a_lost_connection_is_part_of_stopping(session_of_two):
    session_of_two.signal = signal.SIGTERM
    with pytest.raises(Interrupted), distributed._lost_connections(session_of_two):
        raise RuntimeError(LOST[0])


def test_when_a_process_dies_the_others_end_and_the_status_says_failed(tmp_path):
    flags = [*SAMPLE.split(), "--epochs", "50", "--checkpoint-every", "2", "--repo", tmp_path / "m"]
    status = tmp_path / "status"
    run = begin(*TORCHRUN, "2", "train.py", *flags, "--status", status)
    wait_for(lambda: checkpoints(tmp_path / "m"), run)
    os.kill(children(run)[1], signal.SIGKILL)
    code, out, err = end(run, timeout=60)
    assert code and "another process of this run has ended" in err
    assert re.search("RuntimeError: .*(Connection|closed|pipe)", out), "the cause is told, too"
    found = json.loads(status.read_text())
    assert found["state"] == "failed" and "another process" in found["error"]
    assert checkpoints(tmp_path / "m"), "there is something to go on from"


def begin_without_launcher(*commands: list) -> list[subprocess.Popen]:
    """Start the processes of a run, each by its command, so that each may be watched."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    meet |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(len(commands)))
    ranks = enumerate(commands)
    return [begin(*c, **meet, **dict.fromkeys(("RANK", "LOCAL_RANK"), str(r))) for r, c in ranks]


def test_the_error_of_one_process_is_reported_by_it_and_ends_the_others(folder, encoder, tmp_path):
    train = [sys.executable, "train.py", "--repo", tmp_path / "models"]
    corpora = folder, tmp_path / "nowhere"  # as on another machine
    runs = begin_without_launcher(*([*train, *small(corpus, encoder)] for corpus in corpora))
    (code, _, err), (guilty_code, _, guilty_err) = [end(run, timeout=60) for run in runs]
    assert code == guilty_code == 2
    assert f"train.py: error: process 1: --corpus {tmp_path}/nowhere" in guilty_err
    assert "another process of this run has ended" in err and "Traceback" not in err
    assert not (tmp_path / "models").exists()


# ------------------------------------------------------------------- a process that falls silent

IMPATIENT = "import sys; from nerc import heartbeat; heartbeat.LIMIT = 4; "
NOT_HEARD = "error: {}nothing was heard of host {} (process {}) for 4 s; "


def test_a_silent_process_ends_the_run_with_one_line(tmp_path):
    flags = [*SAMPLE.split(), "--epochs", "50", "--repo", tmp_path / "m", "--checkpoint-every", "2"]
    flags += ["--status", tmp_path / "status"]
    train = [sys.executable, "-c", IMPATIENT + "import train; train.main(sys.argv[1:])", *flags]
    main, other = begin_without_launcher(train, train)
    wait_for(lambda: checkpoints(tmp_path / "m"), main)
    os.kill(other.pid, signal.SIGSTOP)
    try:
        code, _, err = end(main, timeout=30)
    finally:
        other.kill()
        end(other)
    assert code == 2 and err.startswith(
        "train.py: " + NOT_HEARD.format("", socket.gethostname(), 1)
    )
    assert err.count("\n") == 1 and "--resume" in err
    found = json.loads((tmp_path / "status").read_text())
    assert found["state"] == "failed" and "nothing was heard" in found["error"]
    assert checkpoints(tmp_path / "m"), "there is something to go on from"


@pytest.mark.slow  # the test before shows that silence ends a run
def test_only_silence_ends_a_run_and_all_that_are_left_name_who_is_lost(tmp_path):
    code = f"""{IMPATIENT}
import pathlib, time
from nerc import distributed
accelerator = distributed.start()
rank, place = accelerator.process_index, pathlib.Path(sys.argv[1])
with distributed.watching(accelerator, "program"):
    (place / f"started{{rank}}").touch()
    if rank == 0:
        since = time.monotonic()
        while time.monotonic() < since + 7:  # computes alone
            pass
    accelerator.wait_for_everyone()
    (place / f"together{{rank}}").touch()
    if rank == 1:
        time.sleep(600)  # waits for something else
    accelerator.wait_for_everyone()
"""
    runs = begin_without_launcher(*[[sys.executable, "-c", code, tmp_path]] * 3)
    wait_for(lambda: len(list(tmp_path.glob("started*"))) == 3, runs[0])
    for number in (signal.SIGSTOP, signal.SIGCONT):  # a suspended run goes on
        for run in runs:
            os.kill(run.pid, number)
        time.sleep(7 if number == signal.SIGSTOP else 0)
    wait_for(lambda: len(list(tmp_path.glob("together*"))) == 3, runs[0])
    os.kill(runs[2].pid, signal.SIGSTOP)
    try:
        ended = [end(run, timeout=30) for run in runs[:2]]
    finally:
        for run in runs:
            run.kill()
            end(run)
    for (code, _, err), who in zip(ended, ("", "process 1: "), strict=True):
        line = "program: " + NOT_HEARD.format(who, socket.gethostname(), 2)
        assert code == 2 and err.startswith(line) and err.count("\n") == 1, err
