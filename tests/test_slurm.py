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
        for left in ROOT.glob("*.status"):
            left.unlink()


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
