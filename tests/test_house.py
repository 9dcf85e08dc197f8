"""The house rules: which room may import which, and that importing does no work."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from evaluate import EvaluateConfig
from nerc.active_learning.config import (
    ActiveConfig,
    ActiveDataConfig,
    ActiveStoreConfig,
)
from nerc.annotation.config import AnnotateConfig, LlmConfig
from nerc.cli import LogConfig
from nerc.commands.agreement import AgreementConfig
from nerc.commands.audit import AuditConfig
from nerc.commands.convert import ConvertConfig
from nerc.commands.curves import CurvesConfig
from nerc.commands.export import ExportConfig
from nerc.commands.predict import PredictConfig
from nerc.commands.results import ResultsConfig
from nerc.commands.revisions import ListConfig, PullConfig, PushConfig
from nerc.commands.suspects import SuspectsConfig
from nerc.config import DataConfig, ModelConfig, StoreConfig, TrainConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import records  # noqa: E402
import tables  # noqa: E402

# A module may import those of the groups before its own, and of its own wing.
TABLE = """
errors < tables recipes < cli files heartbeat hub hardware progress < config < distributed < data
< model < store < evaluation < training < annotation < active_learning < commands
"""
GROUPS = [group.split() for group in TABLE.split("<")]
WINGS = [name for group in GROUPS for name in group if (ROOT / "nerc" / name).is_dir()]
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "nerc").with_suffix("").parts)
    for path in (ROOT / "nerc").rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)
FLAGS = {
    "train.py": (DataConfig, ModelConfig, TrainConfig, StoreConfig, LogConfig),
    "evaluate.py": (EvaluateConfig, LogConfig),
    "-m nerc predict": (PredictConfig, LogConfig),
    "-m nerc export": (ExportConfig,),
    "-m nerc revisions list": (ListConfig,),
    "-m nerc revisions push": (PushConfig,),
    "-m nerc revisions pull": (PullConfig,),
    "-m nerc results": (ResultsConfig,),
    "-m nerc audit": (AuditConfig,),
    "-m nerc annotate": (AnnotateConfig, LlmConfig, LogConfig),
    "-m nerc convert": (ConvertConfig,),
    "-m nerc agreement": (AgreementConfig,),
    "-m nerc suspects": (SuspectsConfig,),
    "active_learn.py": (
        *(ActiveConfig, ActiveDataConfig, ModelConfig, TrainConfig, ActiveStoreConfig),
        *(LlmConfig, LogConfig),
    ),
    "-m nerc curves": (CurvesConfig,),
}
MOST_LINES = 21_290  # of Python in nerc/; fewer is better
SCRIPTS = ["train.py", "evaluate.py", "active_learn.py"]
COMMANDS = sorted(m.removeprefix("commands.") for m in MODULES if m.startswith("commands."))


def imported(path: Path) -> set[str]:
    """Modules of nerc (as "data.tags") and scripts that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    known = {f"nerc.{module}" for module in MODULES} | {"train", "evaluate", "active_learn"}
    parts = ({name, name.rpartition(".")[0]} & known for name in found)
    return {name.removeprefix("nerc.") for own in parts for name in own}


def group_of(module: str) -> int:
    return next(i for i, names in enumerate(GROUPS) if module.split(".")[0] in names)


def path_of(module: str) -> Path:
    return ROOT / "nerc" / f"{module.replace('.', '/')}.py"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_in_one_direction(module):
    for other in imported(path_of(module)):
        same_wing = module.split(".")[0] == other.split(".")[0] and "." in module
        assert same_wing or group_of(other) < group_of(module), f"{module} imports {other}"


def test_no_imports_run_in_a_circle():
    imports = {module: imported(path_of(module)) for module in MODULES}
    assert sum(map(len, imports.values())) > 100
    left = dict(imports)
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left


@pytest.mark.parametrize("module", MODULES)
def test_only_commands_import_inside_functions(module):
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    inner = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    if not module.startswith("commands."):
        assert [n.lineno for n in inner if n not in tree.body] == []


def test_the_init_files_of_the_wings_are_empty():
    assert len(WINGS) == 8
    assert all((ROOT / "nerc" / wing / "__init__.py").read_text() == "" for wing in WINGS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_do_not_import_each_other(script):
    assert imported(ROOT / script) <= set(MODULES)


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("commands.")])
def test_the_package_neither_prints_nor_reads_argv(module):
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Name) and node.id == "print"), node.lineno
        assert not (isinstance(node, ast.Attribute) and node.attr == "argv"), node.lineno


def test_importing_nerc_does_no_work():
    code = "import sys, nerc; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "script", [s.removesuffix(".py") for s in SCRIPTS] + [f"nerc.commands.{c}" for c in COMMANDS]
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
    assert script.replace("nerc.commands.", "python -m nerc ") in run.stdout


def documentation() -> str:
    """README.md and the pages of docs/, one after the other."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def test_the_documented_commands_have_the_flags_that_they_use():
    text = documentation()
    blocks = re.findall(r"^```\w*\n(.*?)^```|^((?: {4}.*\n)+)", text, re.MULTILINE | re.DOTALL)
    commands = "\n".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ")
    used = re.findall(rf"({'|'.join(FLAGS)})(?![\w.]) ?([^\n|;&#]*)", commands)
    assert {script for script, _ in used} == set(FLAGS)
    for script, line in used:
        configs = FLAGS[script]
        names = {f.name for config in configs for f in fields(config)} | {"help"}
        known = {name.rstrip("_").replace("_", "-") for name in names}
        assert set(re.findall(r"--([a-z0-9-]+)", line)) <= known, f"{script} {line}"


@pytest.mark.parametrize(
    "command",
    [
        "-m nerc results --repo experiments/results",
        "experiments/raw_text.py",
        "experiments/weak_labels.py table",
        "experiments/active_learning.py table",
        "experiments/documents.py",
        "experiments/few_labels.py",
        "experiments/label_quality.py",
    ],
)
def test_the_documented_tables_are_those_of_the_records(command):
    command = [sys.executable, *command.split()]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert table.count("\n") >= 3 and table in documentation()


def test_the_tables_of_performance_are_those_of_the_records():
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page, records.read(records.FILE)) == page


@pytest.mark.parametrize("module", MODULES)
def test_what_one_holds_in_the_head_is_short(module):
    text = path_of(module).read_text(encoding="utf-8")
    assert text.count("\n") <= 450 or module.startswith("data.")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert node.end_lineno - node.lineno < 60, node.name
            assert len(parameters) <= 7 or node.name == "forward", node.name


def test_the_package_stays_small():
    entries = [path.name for path in (ROOT / "nerc").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 21
    lines = sum(p.read_text(encoding="utf-8").count("\n") for p in (ROOT / "nerc").rglob("*.py"))
    assert lines <= MOST_LINES


def test_no_file_of_the_project_is_large():
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in done.stdout.split("\0") if name}
    assert len(sizes) > 100 and max(sizes.values()) < 500_000, max(sizes, key=sizes.get)


def test_the_readme_is_a_front_door():
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 200
