"""The house rules: which room may import which, and that importing does no work."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from nerc.config import (
    ActiveConfig,
    ActiveDataConfig,
    ActiveStoreConfig,
    ActiveTrainConfig,
    AuditConfig,
    CurvesConfig,
    DataConfig,
    EvaluateConfig,
    ListConfig,
    ModelConfig,
    PredictConfig,
    PullConfig,
    PushConfig,
    StoreConfig,
    TableConfig,
    TrainConfig,
)

ROOT = Path(__file__).parents[1]

# A module may import those before it.
ORDER = [
    *("config", "tags", "text", "sample", "files", "records", "machine", "launch", "layers", "hub"),
    *("data", "labels", "queries", "oracles", "encoding", "model", "calibration", "metrics"),
    *("prediction", "pipeline", "acquisition"),
    *("checkpoints", "graphs", "training", "combining", "comparison", "analysis"),
    *("reports", "page", "card", "revisions", "runs", "active", "pictures", "findings", "curves"),
    *("predict", "cheap_labels"),
]
MODULES = sorted(path.stem for path in (ROOT / "nerc").glob("*.py") if path.stem != "__init__")
FLAGS = {
    "train.py": (DataConfig, ModelConfig, TrainConfig, StoreConfig),
    "evaluate.py": (EvaluateConfig,),
    "-m nerc.predict": (PredictConfig,),
    "-m nerc.revisions list": (ListConfig,),
    "-m nerc.revisions push": (PushConfig,),
    "-m nerc.revisions pull": (PullConfig,),
    "-m nerc.reports table": (TableConfig,),
    "-m nerc.cheap_labels audit": (AuditConfig,),
    "active_learn.py": (
        *(ActiveConfig, ActiveDataConfig, ModelConfig, ActiveTrainConfig, ActiveStoreConfig),
    ),
    "-m nerc.curves show": (CurvesConfig,),
}
SCRIPTS = ["train.py", "evaluate.py", "active_learn.py"]
PROGRAMS = ["predict", "revisions", "reports", "cheap_labels", "curves"]  # python -m nerc.NAME


def imports(path: Path) -> set[str]:
    """Modules of nerc, and scripts, that the file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parent, _, module = node.module.partition(".")
            names = [module] if module else [alias.name for alias in node.names]
            found |= set(names) if parent == "nerc" else {parent}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & {*MODULES, *(script.removesuffix(".py") for script in SCRIPTS)}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_in_one_direction(module):
    before = set(ORDER[: ORDER.index(module)])
    if module == "model":
        before |= {"pipeline"}  # by NERSmall.predict alone, when it is called
    if module == "reports":
        before |= {"findings"}  # for the names of types
    assert imports(ROOT / "nerc" / f"{module}.py") <= before


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_do_not_import_each_other(script):
    assert imports(ROOT / script) <= set(ORDER)


@pytest.mark.parametrize("module", sorted({*MODULES} - {*PROGRAMS}))
def test_the_package_neither_prints_nor_reads_argv(module):
    tree = ast.parse((ROOT / "nerc" / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Name) and node.id == "print"), node.lineno
        assert not (isinstance(node, ast.Attribute) and node.attr == "argv"), node.lineno


def test_importing_nerc_does_no_work():
    code = "import sys, nerc; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "script", [s.removesuffix(".py") for s in SCRIPTS] + [f"nerc.{p}" for p in PROGRAMS]
)
def test_help_imports_nothing_heavy(script):
    code = f"""
import sys
sys.path.insert(0, ".")
import {script} as script
try:
    script.main(["--help"])
except SystemExit as stop:
    assert stop.code == 0
heavy = [m for m in ("torch", "transformers", "accelerate", "numpy", "pyarrow") if m in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"python {script}.py" in run.stdout or f"python -m {script} " in run.stdout


def test_the_readmes_commands_have_the_flags_that_they_use():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```|^((?: {4}.*\n)+)", text, re.MULTILINE | re.DOTALL)
    commands = "\n".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ")
    used = re.findall(rf"({'|'.join(FLAGS)})(?![\w.]) ?([^\n|;&#]*)", commands)
    assert {script for script, _ in used} == set(FLAGS)
    for script, line in used:
        configs = FLAGS[script]
        known = {f.name.replace("_", "-") for config in configs for f in fields(config)} | {"help"}
        assert set(re.findall(r"--([a-z-]+)", line)) <= known, f"{script} {line}"


@pytest.mark.parametrize(
    "command",
    [
        "-m nerc.reports table --repo experiments/results",
        "experiments/raw_text.py",
        "experiments/cheap_labels.py table",
        "experiments/active_learning.py table",
    ],
)
def test_the_readmes_tables_are_those_of_the_records(command):
    command = [sys.executable, *command.split()]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert table.count("\n") >= 3 and table in (ROOT / "README.md").read_text(encoding="utf-8")
