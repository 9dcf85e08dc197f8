"""An installed nerc holds every wing and works outside the checkout."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_wing_and_its_files_are_packaged():
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packaged = find_packages(str(ROOT), include=include)
    folders = [path.parent for path in (ROOT / "nerc").rglob("__init__.py")]
    assert sorted(packaged) == sorted(".".join(f.relative_to(ROOT).parts) for f in folders)
    data = PROJECT["tool"]["setuptools"]["package-data"]
    listed = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    others = {p for p in (ROOT / "nerc").rglob("*.*") if p.suffix not in (".py", ".pyc")}
    assert listed == others


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-e",)])
def test_an_installed_nerc_works_outside_the_checkout(flags, tmp_path):
    """Install into an environment of its own, beside a checkout that is called nerc, too."""
    clone, environment = tmp_path / "nerc", tmp_path / "environment"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (libraries,) = environment.glob("lib/python*/site-packages")
    (libraries / "others.pth").write_text("\n".join(p for p in sys.path if "site-packages" in p))
    python = environment / "bin/python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", *flags, str(clone)]
    subprocess.run(install, check=True)
    code = "from nerc import NERSmall; import nerc.active_learning.learner, nerc.evaluation.page"
    subprocess.run([str(python), "-c", code], cwd=tmp_path, check=True)
    said = subprocess.run(
        [str(environment / "bin/nerc"), "results", "--repo", str(ROOT / "experiments/results")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "| gold   |" in said
