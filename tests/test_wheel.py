"""The wheel in an environment that has what it requires and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

FROM_NOWHERE = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def required(requirements: list[str]) -> set[str]:
    """Names of the distributions that these need, and of those that they need in turn."""
    found, left = set(), list(requirements)
    while left:
        requirement = Requirement(left.pop())
        name = requirement.name.lower().replace("_", "-")
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        left += metadata.requires(name) or []
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The Python of an environment with the wheel and links to what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "sgtheory", folder / "sgtheory", ignore=shutil.ignore_patterns("__pycache__"))
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder]  # leaves folders where it is
    built = subprocess.run([sys.executable, *map(str, build)], capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"needs setuptools from an index: {built.stderr.strip().splitlines()[-1]}")
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = folder.glob("env/lib/*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (described,) = metadata.distributions(name="sgtheory", path=[str(packages)])
    for name in required(described.requires):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))
    return folder / "env" / "bin" / "python"


def run(python: Path, code: str, folder: Path) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=folder, env=FROM_NOWHERE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_core_needs_the_core_alone(bare, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    for package in ("hydra", "omegaconf", "wandb", "h5py", "pandas", "matplotlib", "PIL", "soundfile"):
        assert run(bare, f"import importlib.util as i; print(i.find_spec('{package}'))", tmp_path) == "None\n"
    assert "site-packages/sgtheory" in run(bare, "import sgtheory; print(sgtheory.__file__)", tmp_path)
    run(bare, example, tmp_path)
    assert run(bare, "import sgtheory as s, pathlib as p; print(*p.Path(s.__file__).parent.glob('py.typed'))", tmp_path)
