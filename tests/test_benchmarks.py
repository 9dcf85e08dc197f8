"""Records of benchmarks lack nothing, and their tables show medians, a machine at a time."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from nerc.errors import InputError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import records  # noqa: E402
import tables  # noqa: E402

MACHINE = {"name": "AMD EPYC", "family": 25, "model": 17, "features": ["avx512_bf16"]}


def reading(row: str, *seconds: float, **changed) -> dict:
    """A record of the benchmark of reading, with a run for each number of seconds."""
    runs = [{"sentences": 10, "processor_seconds": s, "gib": 0.5} for s in seconds]
    names = ("benchmark", "row", "command", "commit", "device", "processor", "cores", "threads")
    values = ("reading", row, "python benchmarks/reading.py", "a" * 40, "cpu", MACHINE, 2, 1)
    more = {"encoder": None, "corpus": "conll2003", "settings": {}, "seeds": [], "runs": runs}
    return dict(zip(names, values, strict=True)) | more | changed


def cells(text: str) -> list[list[str]]:
    """The cells of the rows of Markdown tables, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] and not row[0].startswith("-")]


def test_a_row_shows_the_median_of_its_runs_and_the_ratio_of_medians():
    ours, other = reading("this version", 3.0, 9.0, 4.0), reading("the other one", 2.0, 1.0, 8.0)
    text = tables.sections([ours, other], "reading")
    assert cells(text) == [
        ["this version", "3", "10", "4.00", "2.00", "0.50"],
        ["the other one", "3", "10", "2.00", "1.00", "0.50"],
    ]
    assert "medians of 3 runs; commit aaaaaaa." in text


def test_processors_of_one_name_do_not_share_a_table():
    newer = MACHINE | {"family": 26, "model": 2}
    without = MACHINE | {"features": []}
    known = [reading("this version", s) for s in (1.0, 2.0, 3.0)]
    for record, processor in zip(known, (MACHINE, newer, without), strict=True):
        record["processor"] = processor
    text = tables.sections(known, "reading")
    assert [row[3] for row in cells(text)] == ["1.00", "2.00", "3.00"]
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### AMD EPYC (family 25, model 17, avx512_bf16), 2 cores, 1 thread",
        "### AMD EPYC (family 26, model 2, avx512_bf16), 2 cores, 1 thread",
        "### AMD EPYC (family 25, model 17), 2 cores, 1 thread",
    ]


def test_other_settings_make_another_table_and_a_newer_row_replaces_its_older_one():
    old, new = reading("this version", 1.0), reading("this version", 2.0, commit="b" * 40 + "+")
    other = reading("this version", 3.0, settings={"other": "1234567"})
    text = tables.sections([old, other, new], "reading")
    assert [row[3] for row in cells(text)] == ["2.00", "3.00"] and text.count("###") == 1
    assert "commit bbbbbbb+." in text and "other 1234567; commit aaaaaaa." in text


def test_all_damaged_inputs_are_the_sum_of_the_rows():
    outcomes = dict(zip(records.OUTCOMES, (1, 2, 3, 0), strict=True))
    run = {"files": "a.json", "damaged": 6} | outcomes
    known = [reading(name, benchmark="damage", runs=[run]) for name in ("predict", "train")]
    rows = cells(tables.sections(known, "damage"))
    assert rows[-1] == ["all", "", "12", "2", "4", "6", "0"]


@pytest.mark.parametrize("field", sorted(set(reading("")) - {"median_of"}))
def test_a_record_that_lacks_a_field_is_refused_with_its_line(field, tmp_path):
    whole = reading("this version", 1.0)
    lacking = {key: value for key, value in whole.items() if key != field}
    path = tmp_path / "records.jsonl"
    path.write_text(f"{json.dumps(whole)}\n{json.dumps(lacking)}\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"records\.jsonl:2: has no {field}; measure"):
        records.read(path)


@pytest.mark.parametrize(
    "changed, fault",
    [
        ({"benchmark": "writing"}, "benchmark is"),
        ({"runs": []}, r"runs is \[\], wanted one or more runs"),
        ({"runs": [{"sentences": 10, "gib": 0.5}]}, r"has no runs\[0\]\.processor_seconds"),
        ({"seeds": ["0"]}, r"seeds\[0\] is"),
        ({"runs": reading("", 1.0, 2.0)["runs"], "median_of": 3}, "median_of: wanted one run"),
    ],
)
def test_nothing_is_appended_with_a_faulty_record(changed, fault, tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, [reading("this version", 1.0)])
    before = path.read_bytes()
    with pytest.raises(InputError, match=fault):
        records.append(path, [reading("this version", 2.0), reading("", 1.0, **changed)])
    assert path.read_bytes() == before


def test_a_mark_that_is_missing_is_named():
    page = tables.PAGE.read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"performance\.md: scale: wanted one place"):
        tables.filled(page.replace("<!-- tables of scale -->", ""), [])


def test_linux_tells_family_model_and_features(tmp_path):
    path = tmp_path / "cpuinfo"
    one = "cpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Some Xeon\n"
    path.write_text(f"processor\t: 0\n{one}flags\t\t: fpu avx512_vnni amx_int8 avx512_bf16x\n\n")
    found = {"name": "Some Xeon", "family": 6, "model": 143}
    assert records.processor(path) == found | {"features": ["avx512_vnni", "amx_int8"]}


def test_a_command_is_kept_without_folders_and_without_the_file_of_records():
    command = ["/a/b/benchmarks/x.py", "--record", "/c/d.jsonl", "--corpus", "/home/me/conll/"]
    kept = records.command_line([*command, "--encoder=../e", "--only", "nerc, bf16"])
    assert kept == "python benchmarks/x.py --corpus conll --encoder=e --only 'nerc, bf16'"
    assert records.command_line(["x.py", "--record=f", "--repeats", "2"]).endswith(
        "x.py --repeats 2"
    )


def test_only_changes_of_code_mark_a_commit(tmp_path):
    def git(*command: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x"]
        done = subprocess.run(
            ["git", *who, "-C", tmp_path, *command], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    assert records.commit(tmp_path) is None
    for folder in ("docs", "benchmarks"):
        (tmp_path / folder).mkdir()
    paths = [tmp_path / name for name in ("docs/a.md", "benchmarks/a.jsonl", "benchmarks/a.py")]
    for path in paths:
        path.write_text("old\n")
    git("add", ".")
    git("commit", "-qm", "first")
    for path, mark in zip(paths, ("", "", "+"), strict=True):
        path.write_text("new\n")
        assert records.commit(tmp_path) == git("rev-parse", "HEAD") + mark


def run(*command) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_benchmark_appends_its_runs_to_the_records(folder, tmp_path):
    path = tmp_path / "records.jsonl"
    before = reading("this version", 1.0)
    records.append(path, [before])
    flags = ["--corpus", folder, "--sentences", "50", "--repeats", "2", "--record", path]
    done = run("benchmarks/reading.py", *flags)
    assert done.returncode == 0, done.stderr
    first, *measured = records.read(path)
    assert first == before
    assert [len(record["runs"]) for record in measured] == [2, 1]
    assert done.stdout.strip() == tables.sections(measured, "reading")
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_benchmark_refuses_faulty_records_before_it_measures(folder, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("{}\n")
    done = run("benchmarks/reading.py", "--corpus", folder, "--record", path)
    assert (done.returncode, done.stdout, path.read_text()) == (2, "", "{}\n")
    assert done.stderr.startswith(f"reading.py: error: {path}:1: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_each_benchmark_of_speed_gives_whole_records(folder, tmp_path):
    from gpu_speed import make_encoder

    path, encoder, models = (tmp_path / name for name in ("records.jsonl", "encoder", "models"))
    make_encoder(Namespace(corpus=str(folder), on_cpu=True), str(encoder))  # reads long sentences
    of = ["--corpus", folder, "--encoder", encoder]
    done = run("train.py", "--data", "gold", *of, "--epochs", "1", "--repo", models)
    assert done.returncode == 0, done.stderr
    few = ["--repeats", "1", "--record", path]
    for script, *flags in (
        ["train_speed.py", *of, "--sentences", "20", "--epochs", "1", "--only", "Trainer, float32"],
        ["predict_speed.py", *of, "--batch-sizes", "4"],
        ["onnx_speed.py", *of[:2], "--revision", models / "model_primary", "--batch-sizes", "4"],
        ["scale.py", "--sizes", "100", "--updates", "2"],
    ):
        done = run(f"benchmarks/{script}", *flags, *few)
        assert done.returncode == 0, done.stderr
    found = {record["benchmark"] for record in records.read(path)}
    assert found == {"train_speed", "updates", "predict_speed", "onnx_speed", "scale"}
