"""Two hosts of this machine, by network namespaces: the link between them is cut, and slow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def why_not() -> str | None:
    """Why no namespaces can be made here, if so."""
    if missing := [p for p in ("ip", "tc", "unshare", "mount") if not shutil.which(p)]:
        return f"there is no {' or '.join(missing)}"
    name = f"nerc{os.getpid()}try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespace may be made here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.slow
def test_a_cut_link_ends_the_run_on_both_hosts_and_resume_continues_exactly():
    if reason := why_not():
        pytest.skip(reason)
    command = [sys.executable, "benchmarks/two_hosts.py", "--cuts", "2", "--launchers"]
    done = subprocess.run(
        [*command, "accelerate", "torchrun"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Two runs without a cut, two with one, more that had ended before it, and a slow one.
    number, of = re.search(r"(\d+) of (\d+) runs as they should be", done.stdout).groups()
    assert number == of and int(of) >= 5
    assert len(re.findall(r"^\| (?:accelerate|torchrun) .* yes \|", done.stdout, re.M)) >= 2
