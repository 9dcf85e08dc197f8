"""What a command finds around it: environment variables, streams, signals, Python's modes, Windows.

It changes no result, or one line says what is wrong.
"""

import ast
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import evaluate
from nerc import distributed, errors, files
from nerc.__main__ import VERBS
from nerc.commands import predict
from nerc.errors import InputError
from nerc.files import check_file

ROOT = Path(__file__).parents[1]
NERC = [sys.executable, "-m", "nerc"]
ALONE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # no UTF-8 anywhere


def run(*command, **how) -> subprocess.CompletedProcess:
    environment = os.environ | how.pop("env", {})
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, "timeout": 120} | how
    return subprocess.run([str(c) for c in command], env=environment, text=True, **how)


def shell(line: str, *arguments, **how) -> subprocess.CompletedProcess:
    """A line of shell, in which "$@" stands for the arguments."""
    return run("sh", "-c", line, "sh", *arguments, **how)


# ------------------------------------------------------------------- the same predictions


RUBBISH = {
    "RANK": "5",
    "LOCAL_RANK": "x",
    "LOCAL_WORLD_SIZE": "0",
    "MASTER_PORT": "x",
    "OMP_NUM_THREADS": "x",
    "ACCELERATE_MIXED_PRECISION": "rubbish",
    "ACCELERATE_DYNAMO_BACKEND": "x",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "x",
    "ACCELERATE_DEBUG_MODE": "x",
    "CUDA_VISIBLE_DEVICES": "rubbish",
    "HF_HOME": "/dev/null",
    "HF_HUB_OFFLINE": "rubbish",
    "HOME": "/nowhere",
    "TMPDIR": "/nowhere",
    "TERM": "dumb",
    "COLUMNS": "x",
    "PYTHONIOENCODING": "ascii",
}
SURROUNDINGS = {
    "python -OO, in ASCII": ALONE
    | {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"},
    "rubbish, in Turkey": RUBBISH
    | {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "2", "TZ": "Europe/Istanbul"},
}


@pytest.fixture(scope="module")
def flags(taught, folder, tmp_path_factory) -> tuple[list[str], list[str]]:
    """Flags of predict and evaluate.py, but those for their output."""
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("Zoë said İstanbul\nis in IRELAND, straße, \U0001f1eb\U0001f1f7\n", "utf-8")
    with text.open("ab") as file:
        file.write((folder / "test.txt").read_bytes())
    common = ["--repo", str(taught), "--revision", "model_primary", "--num-threads", "1"]
    return ["--input", str(text), *common], common


@pytest.fixture(scope="module")
def here(flags, tmp_path_factory) -> tuple[bytes, bytes]:
    """What predict and evaluate.py write in the process of the tests."""
    folder = tmp_path_factory.mktemp("here")
    predict.main([*flags[0], "--output", str(folder / "predicted")])
    evaluate.main([*flags[1], "--json", str(folder / "report")])
    return (folder / "predicted").read_bytes(), (folder / "report").read_bytes()


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_predictions_do_not_depend_on_what_is_around(flags, here, tmp_path, name):
    assert here[0].count(b'"type"') > 10
    code = (
        "import sys, evaluate\n"
        "from nerc.commands import predict\n"
        "first, second = sys.argv[1].split('\\t'), sys.argv[2].split('\\t')\n"
        "predict.main(first)\n"
        "evaluate.main(second)\n"
    )
    first = [*flags[0], "--output", str(tmp_path / "predicted")]
    second = [*flags[1], "--json", str(tmp_path / "report")]
    env = SURROUNDINGS[name]
    done = run(sys.executable, "-c", code, "\t".join(first), "\t".join(second), env=env)
    assert done.returncode == 0, done.stderr
    assert ((tmp_path / "predicted").read_bytes(), (tmp_path / "report").read_bytes()) == here


# ------------------------------------------------------------------- Python and systems


COMMANDS = [["train"], ["evaluate"], ["active_learn"], ["nerc.__main__"]]
COMMANDS += [["nerc.commands.revisions", action] for action in ("list", "push", "pull")]
COMMANDS += [[f"nerc.commands.{verb}"] for verb in VERBS]


def test_the_help_is_the_same_without_docstrings():
    code = f"""
import importlib
for module, *action in {COMMANDS}:
    try:
        importlib.import_module(module).main([*action, "--help"])
    except SystemExit:
        pass
"""
    plain, optimised = (run(sys.executable, *mode, "-c", code) for mode in ([], ["-OO"]))
    assert optimised.stderr == "" and optimised.stdout == plain.stdout
    assert plain.stdout.count("usage: ") == len(COMMANDS) and "None" not in plain.stdout


def test_no_check_rests_on_an_assertion():
    for path in [*(ROOT / "nerc").rglob("*.py"), *ROOT.glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)] == [], path


def test_nothing_is_needed_that_windows_lacks(tmp_path):
    """Other libraries know Windows; they get what they took from this system before it is gone."""
    code = """
import os, signal, sys
import accelerate, datasets, matplotlib.pyplot, nerc, seqeval.metrics, torch.utils.tensorboard
from transformers import AutoModelForTokenClassification, BertModel, Pipeline

gone = {signal: "SIGHUP SIGUSR1 SIGUSR2 SIGPIPE SIGKILL SIGALRM SIGQUIT alarm pthread_kill"}
gone[os] = "fork killpg getpgid setsid getuid geteuid getgid sched_getaffinity getloadavg mkfifo"
for module, names in gone.items():
    for name in names.split():
        delattr(module, name)
sys.modules |= dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios"))
sys.platform = "win32"
import train
from nerc.__main__ import main
repo = ["--repo", sys.argv[1], "--num-threads", "1"]
train.main(["--corpus", "sample:60", "--epochs", "1", *repo])
main(["predict", *repo, "--input", "LICENSE", "--output", sys.argv[1] + "/tagged"])
"""
    done = run(sys.executable, "-c", code, tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models/tagged").read_text().count("\n") > 10


# ------------------------------------------------------------------- environment variables


@pytest.mark.parametrize("verb", ["predict", "results"])
@pytest.mark.parametrize("value", ["2", "0", ""])
def test_a_command_of_one_process_says_so_before_it_waits(verb, value, tmp_path):
    env = {"WORLD_SIZE": value, "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    done = run(*NERC, verb, "--repo", tmp_path, env=env, timeout=20)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"runs in one process, and WORLD_SIZE is {value!r}; start it" in done.stderr


@pytest.mark.parametrize(
    "variable, value, wanted",
    [
        ("RANK", "x", "a number from 0 to 1"),
        ("RANK", "-1", "a number from 0 to 1"),
        ("RANK", "2", "a number from 0 to 1"),
        ("RANK", "1" * 5000, "a number from 0 to 1"),
        ("LOCAL_RANK", "9", "a number from 0 to 1"),
        ("LOCAL_WORLD_SIZE", "0", "a number from 1 to 2"),
        ("LOCAL_WORLD_SIZE", "x", "a number from 1 to 2"),
        ("MASTER_PORT", "x", "a number from 1 to 65535"),
        ("MASTER_PORT", "65536", "a number from 1 to 65535"),
        ("WORLD_SIZE", "0", "a number from 1"),
        ("WORLD_SIZE", "-1", "a number from 1"),
        ("WORLD_SIZE", "1.5", "a number from 1"),
        ("WORLD_SIZE", "", "a number from 1"),
        ("WORLD_SIZE", "9" * 5000, "a number from 1"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "the whole model in every process"),
        ("ACCELERATE_USE_FSDP", "1", "the whole model in every process"),
        ("ACCELERATE_TORCH_DEVICE", "meta", "wanted cpu, cuda or cuda:NUMBER"),
    ],
)
def test_rubbish_of_a_launcher_is_refused_before_anything_is_awaited(
    monkeypatch, variable, value, wanted
):
    launch = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, text in (launch | {variable: value}).items():
        monkeypatch.setenv(name, text)
    with pytest.raises(InputError, match=wanted) as error:
        distributed.start()
    assert variable in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_one_line():
    code = "from nerc import distributed, errors\n"
    code += "with errors.one_line_errors('x'):\n    distributed.start()"
    done = run(sys.executable, "-c", code, env={"ACCELERATE_TORCH_DEVICE": "cuda"})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "x: error: Accelerate cannot start: " in done.stderr


def test_accelerate_that_cannot_start_is_one_line(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        launch = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        launch |= {"LOCAL_RANK": "0", "MASTER_PORT": str(taken.getsockname()[1])}
        code = "from nerc import distributed, errors\n"
        code += "with errors.one_line_errors('x'):\n    distributed.start()"
        done = run(sys.executable, "-c", code, env=launch)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "x: error: Accelerate cannot start: " in done.stderr
    assert "EADDRINUSE" in done.stderr and "see the environment variables" in done.stderr


def test_a_library_that_an_environment_variable_breaks_is_named(store):
    env = {"TQDM_MININTERVAL": "x"}
    done = run(*NERC, "predict", "--repo", store, "--input", "LICENSE", env=env)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "error: tqdm.std cannot be loaded: ValueError: " in done.stderr


# ------------------------------------------------------------------- signals


def test_a_run_that_waits_for_others_ends_at_ctrl_c(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "train.py", "--corpus", "sample:60", "--repo", tmp_path / "models"]
    waiting = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stderr=subprocess.PIPE)
    with waiting:
        while waiting.poll() is None:  # until it listens
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=10) == -signal.SIGINT
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_every_command_cleans_up_at_a_signal(tmp_path, name):
    code = f"""
import os, signal, sys
from pathlib import Path
from nerc import errors, files
with errors.one_line_errors("x"), files.unfinished(Path(sys.argv[1])) as new:
    try:
        os.kill(os.getpid(), signal.{name})
    finally:  # as a terminal that closes does, and a launcher
        os.kill(os.getpid(), signal.{name})
"""
    number = getattr(signal, name)
    done = run(sys.executable, "-c", code, tmp_path / "file")
    assert done.returncode == 128 + number and f"x: interrupted by {name}: " in done.stderr
    assert done.stderr.count("\n") == 1 and os.listdir(tmp_path) == []


def test_nohup_is_heeded_by_every_command(tmp_path):
    code = "import os, signal\nfrom nerc import errors\nwith errors.one_line_errors('x'):\n"
    code += "    os.kill(os.getpid(), signal.SIGHUP)\n    print('goes on')"
    assert shell("trap '' HUP; exec \"$@\"", sys.executable, "-c", code).stdout == "goes on\n"


# ------------------------------------------------------------------- standard streams


@pytest.fixture(scope="module")
def records(store, tmp_path_factory) -> Path:
    """A folder with the records of two seeds, so that tables hold ±."""
    folder = tmp_path_factory.mktemp("records")
    for seed in (0, 1):
        place = folder / f"seed_{seed}"
        place.mkdir()
        record = json.loads((store / "model_primary/run.json").read_text())
        record["config"]["seed"], record["id"] = seed, str(seed)
        files.write_json(place / "run.json", record)
        metrics = (store / "model_primary/metrics.json").read_text()
        (place / "metrics.json").write_text(metrics)
    return folder


RESULTS = [*NERC, "results", "--repo"]


def test_a_table_can_be_printed_in_ascii(records):
    plain = run(*RESULTS, records, env={"PYTHONUTF8": "1"})
    ascii = run(*RESULTS, records, env=ALONE)
    assert "±" in plain.stdout and ascii.returncode == 0
    assert ascii.stdout == plain.stdout.replace("±", r"\xb1")


@pytest.mark.parametrize(
    "closed, said",
    [
        (">&-", "standard input or output is closed"),
        (">/dev/full", "no room on the disk"),
        ("2>&- >/dev/full", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_results_that_cannot_be_printed_are_an_error(records, closed, said):
    done = shell(f'"$@" {closed}', *RESULTS, records)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""
    assert done.stderr.count("\n") == (1 if said else 0)


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&-", "2>&- <&-"])
def test_results_are_printed_without_the_other_streams(records, closed):
    done = shell(f'"$@" {closed}', *RESULTS, records)
    assert done.returncode == 0 and done.stdout == run(*RESULTS, records).stdout
    assert shell(f'"$@" {closed}', *RESULTS, records / "no").returncode == 2


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """What a library writes to standard output must not get into a file that was opened later."""
    code = "import os, sys\nfrom nerc import cli\ncli.parse([], 'x', '')\n"
    code += "file = open(sys.argv[1], 'w')\nfor i in range(3):\n"
    code += "    try:\n        os.write(i, b'stray')\n    except OSError:\n        pass"
    shell('"$@" <&- >&- 2>&-', sys.executable, "-c", code, tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def log_and_print(start: str, lost: str, **how) -> subprocess.CompletedProcess:
    """A command that logs, then prints a result; lost: what a shell does to its streams."""
    code = f"""
import logging
from nerc import cli, errors
cli.parse([], "x", "")
cli.start_logging({start})
with errors.one_line_errors("x"):
    logging.getLogger("nerc.x").warning("a message")
    print("a result")
"""
    return shell(f'"$@" {lost}', sys.executable, "-c", code, **how)


@pytest.fixture
def no_reader() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_a_result_is_not_lost_with_the_reader_of_warnings(no_reader):
    for done in (
        log_and_print("prefix='x'", "2>&-"),
        log_and_print("prefix='x'", "2>/dev/full"),
        log_and_print("prefix='x'", "", stderr=no_reader),
    ):
        assert done.stdout == "a result\n" and done.returncode == 0


def test_a_training_goes_on_without_an_output_and_a_result_does_not(no_reader):
    assert log_and_print("alone=True", ">&-").returncode == 0
    assert log_and_print("alone=True", "", stdout=no_reader).returncode == 0
    assert log_and_print("", ">&-").returncode == 2
    assert log_and_print("", "", stdout=no_reader).returncode == 128 + signal.SIGPIPE


# ------------------------------------------------------------------- paths


def test_a_flag_that_is_no_text_is_refused():
    for value in (b"\xff\xfe", "ü".encode("latin-1")):
        command = [*map(str.encode, RESULTS), value]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "is no text in utf-8, the encoding of names here" in done.stderr


def test_a_name_is_measured_in_bytes(tmp_path):
    check_file(tmp_path / ("n" * 200), "--output")
    for name in ("n" * 201, "ü" * 101, "東" * 300):
        with pytest.raises(InputError, match="the name is too long, wanted up to 200 bytes"):
            check_file(tmp_path / name, "--output")


def test_links_that_lead_in_a_circle_are_refused(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="no such folder"):
        check_file(tmp_path / "circle/x", "--output")


def test_what_the_system_refuses_is_one_line():
    done = run(*RESULTS, "n" * 300)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.endswith("n: File name too long\n")


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_a_folder_that_was_removed_is_said(tmp_path, program):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = 'rmdir "$PWD"; exec "$@"'
    command = [sys.executable, ROOT / program, "--repo", tmp_path / "models"]
    done = shell(line, *command, cwd=gone)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "the current folder has been removed; change to another one" in done.stderr


def test_cyclic_garbage_is_collected_as_usual_once_the_libraries_are_loaded():
    usual = gc.get_threshold()
    with errors.one_line_errors("nerc"):
        assert gc.get_threshold()[0] > 10 * usual[0]
        errors.keep_loaded()
        assert gc.get_threshold() == usual and gc.get_freeze_count() > 10_000
    with pytest.raises(SystemExit), errors.one_line_errors("nerc"):
        raise errors.InputError("bad input")
    assert gc.get_threshold() == usual and not gc.get_freeze_count()
