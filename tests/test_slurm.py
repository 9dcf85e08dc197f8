"""The job scripts on a real SLURM: a controller and two nodes, started here and taken down again.

It needs root and Debian's packages slurmctld, slurmd, slurm-client and munge.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import SAMPLE, same_weights, small

import active_learn
from nerc.data import synthetic
from nerc.store import query_records

ROOT = Path(__file__).parents[1]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
MISSING = [program for program in PROGRAMS if not shutil.which(program)]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a SLURM of its own"),
]

CONFIG = """
ClusterName=nerc
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool_%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd_%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=3
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
JobRequeue=1
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_ports}] CPUs=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=8
PartitionName=high Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.env = {"SLURM_CONF": str(place / "slurm.conf"), "PYTHON": sys.executable}
        self.env = dict(os.environ) | self.env
        self.daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        for folder in ("state", "spool_n1", "spool_n2"):
            (self.place / folder).mkdir()
        key = self.place / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        port = 16817 + os.getpid() % 10000 * 3
        ports = f"{port + 1}-{port + 2}"
        text = CONFIG.format(host=host, place=self.place, port=port, node_ports=ports)
        (self.place / "slurm.conf").write_text(text)
        munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
        for option, file in {"socket": "sock", "pid-file": "pid", "log-file": "log"}.items():
            munge.append(f"--{option}={self.place}/munge.{file}")
        self.daemon(*munge, f"--seed-file={self.place}/munge.seed")
        while not (self.place / "munge.sock").exists():
            time.sleep(0.1)
        self.daemon("slurmctld", "-D", "-i", "-f", self.env["SLURM_CONF"])
        for node in ("n1", "n2"):
            self.daemon("slurmd", "-D", "-N", node, "-f", self.env["SLURM_CONF"])
        until(lambda: self.ask("sinfo", "--noheader", "--format=%T").split() == ["idle"], self, 60)

    def daemon(self, *command: str) -> None:
        with (self.place / "daemons.log").open("a") as log:
            self.daemons.append(
                subprocess.Popen(
                    command, env=self.env, start_new_session=True, stdout=log, stderr=log
                )
            )

    def stop(self) -> None:
        subprocess.run(["scancel", "--user=root"], env=self.env, capture_output=True, check=False)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            daemon.wait(timeout=30)

    def ask(self, *command: str) -> str:
        """What a command of SLURM's prints; nothing where the controller is not ready."""
        done = subprocess.run(
            [str(part) for part in command], cwd=ROOT, env=self.env, capture_output=True, text=True
        )
        return done.stdout if done.returncode == 0 else ""

    def submit(self, *command: str) -> str:
        """The id of a new job, whose files go to the cluster's folder."""
        sbatch = ["sbatch", "--parsable", "--cpus-per-task=1", f"--chdir={ROOT}"]
        found = self.ask(*sbatch, f"--output={self.place}/job-%j.out", *command)
        assert found.strip(), f"sbatch refused {command}"
        return found.strip()

    def job(self, job: str) -> dict[str, str]:
        words = self.ask("scontrol", "show", "job", job, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def finished(self, job: str, timeout: float = 150) -> dict[str, str]:
        def ended() -> bool:
            state = self.job(job).get("JobState")
            assert state not in ("FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL"), self.log(job)
            return state == "COMPLETED"

        until(ended, self, timeout)
        return self.job(job)

    def log(self, job: str) -> str:
        file = self.place / f"job-{job}.out"
        return file.read_text() if file.exists() else "(no output)"


# In place of vLLM: after a while it is ready, then answers with the sentence, in which it finds no
# entity, and writes each sentence to a file; only to clients that have the key of its environment.
SERVER = """#!{python}
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({{}}, 200 if self.path == "/health" else 404)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.answer({{"error": {{"message": "wrong key"}}}}, 401)
        time.sleep(0.05)
        sentence = request["messages"][-1]["content"].splitlines()[-1]
        with open("{asked}", "a") as file:
            print(sentence, file=file)
        message = {{"role": "assistant", "content": sentence, "refusal": None}}
        choice = {{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}}
        usage = {{"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}
        about = {{"id": "x", "object": "chat.completion", "created": 0, "model": request["model"]}}
        self.answer(about | {{"choices": [choice], "usage": usage}}, 200)

    def answer(self, values, code):
        body = json.dumps(values).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print(sys.argv[1:], flush=True)
assert sys.argv[1:3] == ["serve", "some/model"] and sys.argv[-2:] == ["--max-model-len", "4096"]
time.sleep(1)
address = sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(address, Handler).serve_forever()
"""


def until(condition, cluster: Cluster, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            logs = sorted([*cluster.place.glob("*.log"), *cluster.place.glob("*.out")])
            pytest.fail("\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs))
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster():
    place = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, as paths of sockets must be
    cluster = Cluster(place)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(place)
        for left in [*ROOT.glob("*.status"), *ROOT.glob("*.server.log")]:
            left.unlink()


@pytest.mark.slow  # three quarters of a minute
def test_a_signalled_job_of_two_nodes_is_requeued_and_ends_as_if_undisturbed(cluster, by_two):
    repo = cluster.place / "notice"
    flags = [*SAMPLE.split(), "--epochs", "8", "--repo", repo, "--checkpoint-every", "5"]
    job = cluster.submit("--nodes=2", "slurm/train.sbatch", *flags)
    until(lambda: any(repo.glob(".checkpoints/*/update_*")), cluster, 60)
    cluster.ask("scancel", "--signal=USR1", "--batch", job)
    found = cluster.finished(job)
    log = cluster.log(job)
    assert (found["NumNodes"], found["Restarts"]) == ("2", "1")
    assert "start 0 on n[1-2]" in log and "start 1 on n[1-2]" in log  # one log for both lives
    assert "2 processes on cpu" in log and log.count("epoch  8") == 1
    assert "interrupted by SIGUSR1" in log and "resumed after update" in log
    assert same_weights(by_two, repo)


@pytest.mark.slow
def test_a_job_array_makes_a_revision_for_each_seed_and_another_job_evaluates_them(cluster):
    repo = cluster.place / "sweep"
    flags = [*SAMPLE.split(), "--epochs", "1", "--repo", repo]
    job = cluster.submit("--array=3-4", "slurm/sweep.sbatch", *flags)
    for task in (3, 4):
        cluster.finished(f"{job}_{task}")
    names = ["sweep_seed3", "sweep_seed4"]
    assert sorted(path.name for path in repo.iterdir()) == names
    one, two = ((repo / name / "model.safetensors").read_bytes() for name in names)
    assert one != two
    judged = cluster.submit("slurm/evaluate.sbatch", "--repo", repo, "--revision", *names)
    cluster.finished(judged)
    assert all(f"| {name} " in cluster.log(judged) for name in names)


@pytest.mark.slow
def test_active_learning_is_requeued_and_asks_what_it_would_have_asked(
    cluster, folder, encoder, tmp_path
):
    flags = [*small(folder, encoder), "--combine", "pretrain", "--expert", "8", "--rounds", "2"]
    flags += ["--add", "6", "--checkpoint-every", "5", "--precision", "float32"]
    active_learn.main([*flags, "--repo", str(tmp_path)])
    repo = cluster.place / "active"
    job = cluster.submit("slurm/active_learn.sbatch", *flags, "--repo", repo)
    until(lambda: "round 1: " in cluster.log(job), cluster, 60)
    cluster.ask("scancel", "--signal=USR1", "--batch", job)
    assert cluster.finished(job)["Restarts"] == "1"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in repo.iterdir()) and len(names) == 3
    for name in names:
        for file in (query_records.FILE, "model.safetensors"):
            assert (repo / name / file).read_bytes() == (tmp_path / name / file).read_bytes()


@pytest.mark.slow
def test_an_array_of_shards_of_which_one_is_killed_answers_as_one_run(cluster, taught):
    place = cluster.place / "predict"
    place.mkdir()
    text, whole, output = (place / name for name in ("text", "whole.jsonl", "output.jsonl"))
    sentences = [" ".join(words) for words, *_ in synthetic.generate("test", 1000)]
    text.write_text("\n".join(sentences * (6 * 2**20 // len("\n".join(sentences)))))
    flags = ["--repo", taught, "--input", text, "--output"]
    command = [sys.executable, "-m", "nerc", "predict", "--num-threads", "1", *flags]
    subprocess.run([*command, whole], cwd=ROOT, check=True, capture_output=True)
    job = cluster.submit("--array=0-3", "slurm/predict.sbatch", *flags, output)
    until(lambda: any(place.glob(".output.jsonl.2-of-4-*")), cluster, 120)
    cluster.ask("scontrol", "requeue", f"{job}_1")
    assert [cluster.finished(f"{job}_{i}")["Restarts"] for i in range(4)] == ["0", "1", "0", "0"]
    parts = {path.name: path.stat() for path in place.iterdir() if path.name.startswith("output")}
    assert len(parts) == 8 and min(status.st_size for status in parts.values()) > 0

    (place / "output.jsonl.4-of-4.json").unlink()
    again = cluster.submit(
        "--array=2-3", "--export=ALL,SHARDS=4", "slurm/predict.sbatch", *flags, output
    )
    for task in (2, 3):
        cluster.finished(f"{again}_{task}")
    name = "output.jsonl.3-of-4"
    assert (place / name).stat().st_mtime_ns == parts[name].st_mtime_ns  # it was there already
    name = "output.jsonl.4-of-4"
    assert (place / name).stat().st_mtime_ns > parts[name].st_mtime_ns
    join = [*command[:4], "--join", "4", "--output", output]
    subprocess.run(join, cwd=ROOT, check=True, capture_output=True)
    assert output.read_bytes() == whole.read_bytes()
    left = {path.name for path in place.iterdir()}
    assert left == {*parts, "text", "whole.jsonl", "output.jsonl"}


def test_a_job_that_fails_is_not_requeued(cluster):
    job = cluster.submit("slurm/train.sbatch", "--corpus", cluster.place / "nowhere")
    until(lambda: cluster.job(job).get("JobState") == "FAILED", cluster, 60)
    assert "nowhere" in cluster.log(job) and cluster.job(job)["Restarts"] == "0"


@pytest.mark.slow
def test_a_preempted_job_is_requeued_by_slurm_and_ends_as_if_undisturbed(cluster, tmp_path):
    flags = [*SAMPLE.split(), "--epochs", "20"]
    whole = [sys.executable, "train.py", *flags, "--repo", str(tmp_path)]
    subprocess.run(whole, cwd=ROOT, check=True, capture_output=True)
    repo = cluster.place / "preempted"
    flags += ["--repo", repo, "--checkpoint-every", "never"]
    job = cluster.submit("--nodelist=n1", "slurm/train.sbatch", *flags)
    until(lambda: "epoch  1" in cluster.log(job), cluster, 60)
    urgent = cluster.submit("--partition=high", "--nodelist=n1", "--wrap=sleep 1")
    cluster.finished(urgent)
    found = cluster.finished(job)
    assert found["Restarts"] == "1" and "resumed after update" in cluster.log(job)
    assert same_weights(tmp_path, repo)


def annotate(cluster: Cluster, server: Path, *flags: object) -> str:
    """The id of a job of slurm/annotate.sbatch, with a stand-in for vLLM on nodes without a GPU."""
    variables = f"ALL,MODEL=some/model,VLLM={server},SERVER_FLAGS=--max-model-len 4096"
    no_gpu = ("--gpus-per-node=0", f"--export={variables}")
    return cluster.submit(*no_gpu, "slurm/annotate.sbatch", "--concurrency", 1, *flags)


@pytest.mark.slow
def test_annotation_is_requeued_and_asks_nothing_twice(cluster, folder, tmp_path):
    pytest.importorskip("openai")
    asked, server = tmp_path / "asked", tmp_path / "vllm"
    server.write_text(SERVER.format(python=sys.executable, asked=asked))
    server.chmod(0o755)
    shutil.copytree(folder, tmp_path / "corpus")
    job = annotate(cluster, server, "--corpus", tmp_path / "corpus", "--split=train", "--overwrite")
    until(lambda: asked.exists() and len(asked.read_text().splitlines()) > 3, cluster, 60)
    cluster.ask("scancel", "--signal=USR1", "--batch", job)
    assert cluster.finished(job)["Restarts"] == "1"
    assert cluster.log(job).count("the server is ready") == 2
    sentences = asked.read_text().splitlines()
    words = [line.split()[0] for line in (folder / "train.txt").read_text().splitlines() if line]
    assert " ".join(sentences).split() == [word for word in words if word != "-DOCSTART-"]
    lines = (tmp_path / "corpus" / "llm.txt").read_text().splitlines()
    assert {line.split()[-1] for line in lines if line} == {"O"}
    [log] = ROOT.glob(f"*-{job}.server.log")
    assert log.read_text().count("'--host', '127.0.0.1'") == 2
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if bytes(server) in read(p)]


def read(process: Path) -> bytes:
    try:
        return process.read_bytes()
    except OSError:  # it has ended
        return b""


def test_a_server_that_ends_before_it_is_ready_ends_the_job_with_one_line(cluster, tmp_path):
    server = tmp_path / "vllm"
    server.write_text("#!/bin/bash\necho out of memory; exit 3\n")
    server.chmod(0o755)
    job = annotate(cluster, server, "--corpus", tmp_path)
    until(lambda: cluster.job(job).get("JobState") == "FAILED", cluster, 60)
    first, last = cluster.log(job).splitlines()
    name = f"nerc-annotate-{job}.server.log"
    assert last.endswith(f"the server ended before it was ready; {name} says why")
    assert (ROOT / name).read_text() == "out of memory\n"
