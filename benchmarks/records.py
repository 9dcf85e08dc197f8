"""Records of benchmarks: a line of JSON for each row that a benchmark measured.

A record says what was measured (benchmark, row, encoder, corpus, settings), how (command, commit,
seeds), on what (device, processor, cores, threads), and holds the values of each run. A row that is
older than the records has one run, copied from the documentation: the medians of median_of runs;
its commit is that of the documentation. null: not known.
"""

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # nerc need not be installed

from nerc import files  # noqa: E402
from nerc.errors import InputError, one_line_errors  # noqa: E402

FILE = ROOT / "benchmarks" / "performance.jsonl"
# What makes a processor fast here; two with the same name and other features are two processors.
FEATURES = ("avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
# Kinds of operations of an update, of which each has its share of the time, 0 to 1.
KINDS = ("matrix products", "copies and casts", "softmax, GELU, norms", "optimiser and clipping")
KINDS += ("fresh zeros", "everything else")
OUTCOMES = ("as without damage", "as the file says", "one line, exit code 2", "wrong")
# The values of a run. of_peak and f1: 0 to 1; peak: GFLOP/s; training, process: seconds;
# loading and the rest of scale: microseconds a word.
_SPEED = {"words_per_second": float, "of_peak": float, "peak": float | None}
VALUES = {
    "train_speed": _SPEED | {"f1": float, "training": float, "process": float, "gib": float},
    "updates": dict.fromkeys(KINDS, float),
    "families": {"trainer": float, "nerc": float},  # words per second
    "predict_speed": _SPEED,
    "onnx_speed": {"words_per_second": float, "processor_seconds": float, "f1": float | None}
    | {"batch_size": int | None},
    "scale": dict.fromkeys(("loading", "training", "prediction"), float)
    | {"gib_training": float, "gib_prediction": float},
    "reading": {"sentences": int, "processor_seconds": float, "gib": float},
    "damage": {"files": str, "damaged": int} | dict.fromkeys(OUTCOMES, int),
}
_OF_PROCESSOR = {"name": str | None, "family": int | None, "model": int | None}
_SHAPE = {
    "benchmark": files.Wanted(f"one of {', '.join(VALUES)}", VALUES.__contains__, str),
    **dict.fromkeys(("row", "command", "commit", "device"), str),
    "processor": _OF_PROCESSOR | {"features": [str]},
    **dict.fromkeys(("cores", "threads"), int | None),
    **dict.fromkeys(("encoder", "corpus"), str | None),
    "settings": {str: str | int},
    "seeds": [int],
    "median_of?": int,
    "runs": files.Wanted("one or more runs", bool, [dict]),
}


def add_flag(parser: argparse.ArgumentParser) -> None:
    about = f"append what was measured to this file, such as {FILE.relative_to(ROOT)}"
    parser.add_argument("--record", type=Path, metavar="FILE", help=about)


def about(benchmark: str, given: argparse.Namespace, settings: str, **more) -> dict:
    """What the rows of this command share; ends it with one line where --record cannot be written.

    settings: names of the flags that make it another measurement, where 0 means all; more: fields
    that are not the flags of the same name.
    """
    with one_line_errors(Path(sys.argv[0]).name):
        if given.record:
            files.check_file(given.record, "--record")
            if given.record.exists():
                read(given.record)
            if commit() is None:
                raise InputError("--record: git does not know the commit; clone the repository")
        found = {name: getattr(given, name) for name in settings.split()}
        names = {name: getattr(given, name, None) for name in ("encoder", "corpus")}
        return {
            "benchmark": benchmark,
            "command": command_line(sys.argv),
            "commit": commit(),
            "device": "cpu",
            "processor": processor(),
            "cores": os.cpu_count(),
            **{key: path and Path(os.path.abspath(path)).name for key, path in names.items()},
            "settings": {key: value or "all" for key, value in found.items()},
        } | more


def command_line(arguments: list[str]) -> str:
    """A command without --record, and the last part of each path in it."""
    script, *flags = arguments
    if "--record" in flags:
        del flags[(place := flags.index("--record")) : place + 2]
    kept = [flag.rstrip("/") for flag in flags if not flag.startswith("--record=")]
    text = shlex.join(re.sub("[^=]*/", "", flag) for flag in kept)
    return f"python benchmarks/{Path(script).name} {text}".strip()


def commit(folder: Path = ROOT) -> str | None:
    """The commit of a checkout, followed by + where code differs from it; None without git."""
    git = ["git", "-C", str(folder)]
    try:
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return None
    if done.returncode:
        return None
    # The records and their tables, which change between two benchmarks, are no code.
    code = [".", ":(exclude)docs", ":(exclude)benchmarks/*.jsonl"]
    differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code]).returncode
    return done.stdout.strip() + ("+" if differs else "")


def processor(*cpuinfo: Path) -> dict:
    """Name, family, model and features, as Linux tells them; elsewhere, the name."""
    from nerc.hardware import processor_facts  # imports torch, which tables do not need

    facts = processor_facts(*cpuinfo)
    family, model = (facts.get(key) for key in ("cpu family", "model"))
    return {
        "name": facts.get("model name") or platform.processor() or platform.machine(),
        "family": family and int(family),
        "model": model and int(model),
        "features": [name for name in FEATURES if name in facts.get("flags", "").split()],
    }


def device() -> str:
    """The name of the GPU where torch finds one, otherwise cpu."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def read(path: Path) -> list[dict]:
    """The records of a file; InputError for a line that lacks something."""
    result = []
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        try:
            record = files.parse_json(line)
            check(record)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}; measure it anew with --record") from None
        result.append(record)
    return result


def check(record: dict) -> None:
    """Raise InputError that names the first field that a record lacks."""
    files.check_shape(record, _SHAPE)
    files.check_shape(record, {"runs": [VALUES[record["benchmark"]]]})
    if record.get("median_of") and len(record["runs"]) > 1:
        raise InputError("median_of: wanted one run, which holds the medians")


def append(path: Path, records: list[dict]) -> None:
    """Add records to a file, which is created where it is missing: all of them or none."""
    for record in records:
        check(record)
    before = files.read_text(path) if path.exists() else ""
    files.write_text(path, before + "".join(json.dumps(record) + "\n" for record in records))
