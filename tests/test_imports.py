"""Who may import what: private modules stay in their room, imports go down, libraries stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the ground up: a room imports from lower floors and from itself.
FLOORS = (
    ("__init__",),
    ("errors",),
    ("environment", "files", "reading", "command", "threads", "claims"),
    ("neurons",),
    ("lif",),
    ("metrics", "optimisers", "networks", "data"),
    ("theory", "nir"),
    ("tasks",),
    ("training",),
    ("figures",),
    ("report",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
CONFIGURATION = {"hydra", "omegaconf", "wandb"}
CORE = {"torch", "numpy", "numba", "llvmlite", "scipy", "threadpoolctl"}  # llvmlite is part of numba
CUDA = {"triton"}
HEAVY = {"hydra", "omegaconf", "wandb", "pandas", "matplotlib", "h5py", "PIL", "rich", "jinja2", "requests", "sympy"}


def room(module: str) -> str:
    """The room that a module of the package is in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_public(module: str) -> bool:
    """Whether other rooms may import it: no part is private, and the core shows only what is in its __init__."""
    parts = module.split(".")
    return not any(part.startswith("_") for part in parts) and not (parts[1:2] == ["lif"] and len(parts) > 2)


def imports(path: Path) -> list[str]:
    """Modules that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else node.module for name in names]
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", files("sgtheory", "scripts", "tests"), ids=module_of)
def test_nobody_reaches_into_another_room(path):
    top, *below = path.relative_to(ROOT).parts
    # tests of a room lie in the folder of its name, and may look inside
    own = room(module_of(path)) if top == "sgtheory" else below[0] if top == "tests" else ""
    foreign = [module for module in imports(path) if module.startswith("sgtheory.") and room(module) != own]
    assert not [module for module in foreign if not is_public(module)]


@pytest.mark.parametrize("path", files("sgtheory"), ids=module_of)
def test_imports_go_down(path):
    own = room(module_of(path))
    others = {room(module) for module in imports(path) if module.partition(".")[0] == "sgtheory"} - {own}
    assert not [other for other in others if FLOOR[other] >= FLOOR[own]]


@pytest.mark.parametrize("path", files("sgtheory"), ids=module_of)
def test_libraries_stay_where_they_belong(path):
    used = {module.partition(".")[0] for module in imports(path)} - set(sys.stdlib_module_names) - {"sgtheory"}
    own = room(module_of(path))
    if own != "training":
        assert not used & CONFIGURATION
    if own in ("neurons", "lif", "threads", "errors", "__init__"):
        assert used <= CORE | CUDA


def test_the_core_loads_nothing_else():
    code = "import sys, sgtheory.lif, sgtheory.neurons; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY
