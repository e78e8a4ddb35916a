"""Layout of the repository: imports, docstrings, mirrored tests, recipes, and the wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mutransfer_cli.spec.sources import load_spec, shipped_recipes

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mutransfer_cli"

# rooms that each room may import from: rules <- spec <- fit <- recipe <- check <- report;
# optim <- spec <- proxies <- data <- recipe; data, diagnose <- train <- sweep; notebook and the
# command line on top
MAY_IMPORT = {
    "rules": set[str](),
    "optim": {"rules"},
    "spec": {"rules", "optim"},
    "fit": {"rules", "spec"},
    "recipe": {"rules", "optim", "spec", "fit", "proxies", "data"},
    "check": {"rules", "spec", "fit", "recipe"},
    "report": {"rules", "spec", "fit", "recipe", "check"},
    "data": {"spec", "proxies"},
    "proxies": {"rules", "spec"},
    "diagnose": {"proxies"},
    "train": {"rules", "spec", "data", "proxies", "optim", "diagnose"},
    "sweep": {"rules", "spec", "data", "proxies", "optim", "diagnose", "train"},
    "notebook": {"rules", "spec", "fit", "recipe", "check", "report", "train", "sweep"},
    "cli": {"rules", "optim", "spec", "fit", "recipe", "check", "report", "train", "sweep"},
}
SHARED = {
    *("docstrings", "errors", "explain", "keys", "located", "meant", "quiet", "strict"),
    *("torch_private", "words"),
}
TORCH_FREE = {"rules", "spec", "fit", "check", "report"}

DATA = ("docs", "report/templates", "spec/templates", "recipe/formats/templates")  # without code
SETTINGS = re.compile(r"(?<![\w-])--[a-z]")
FIRST_WORDS = {"Of", "Those", "Its", "In", "At", "What", "Who", "With"}
OF_THE_WHOLE = {Path(f"test_{name}") for name in ("first_hours", "layout", "readme", "recipes")}


def imports(path: Path) -> set[str]:
    """Full names of all imported modules, including imports inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        modules = imports(path)
        inner = {name.split(".")[1] for name in modules if name.startswith("mutransfer_cli.")}
        assert inner <= MAY_IMPORT[room] | {room} | SHARED, path
        if room in TORCH_FREE:
            assert not any(name.split(".")[0] == "torch" for name in modules), path


def test_every_room_is_listed() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)


def test_files_stay_readable() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def sources(room: str) -> list[Path]:
    """Modules of a room and of its subfolders; the room "" holds the package's top-level ones."""
    found = PACKAGE.glob("*.py") if not room else (PACKAGE / room).rglob("*.py")
    return sorted(path for path in found if path.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("folder", ["mutransfer_cli", "tests", "benchmarks"])
def test_docstrings_begin_with_a_subject_or_an_imperative(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
                name = getattr(node, "name", "module")
                assert FIRST_WORDS.isdisjoint(first), f"{path.relative_to(ROOT)}: {name}"


@pytest.mark.parametrize("room", ["", *sorted(MAY_IMPORT.keys() - {"cli"})])
def test_errors_of_the_library_name_no_options(room: str) -> None:
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise):
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found = SETTINGS.search(part.value)
                        assert not found, f"{path.relative_to(ROOT)}:{part.lineno}: {part.value}"


@pytest.mark.parametrize("room", ["", *MAY_IMPORT])
def test_tests_mirror_the_package(room: str) -> None:
    """Module `a.py` is tested in `test_a.py` or `test_a_*.py`, and every such file has a module."""
    tests = ROOT / "tests" / room
    modules = {path.relative_to(PACKAGE / room).with_suffix("") for path in sources(room)}
    found = tests.glob("test_*.py") if not room else tests.rglob("test_*.py")
    named = {path.relative_to(tests).with_suffix("") for path in found} - OF_THE_WHOLE
    for module in modules:
        prefix = module.with_name(f"test_{module.name}")
        assert [t for t in named if t == prefix or f"{t}".startswith(f"{prefix}_")], module
    for test in named:
        name = test.name.removeprefix("test_")
        own = {m.name for m in modules if m.parent == test.parent}
        assert [m for m in own if name == m or name.startswith(f"{m}_")], test


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_loads(name: str) -> None:
    spec, found = load_spec(name)
    assert found.is_relative_to(ROOT / "recipes")
    assert spec.sweep.widths


def test_every_recipe_has_a_name() -> None:
    assert sorted(set(shipped_recipes().values())) == sorted((ROOT / "recipes").rglob("*.yaml"))


def test_all_recipes_are_listed_for_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = listed["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    there = {f"recipes/{path.name}" for path in (ROOT / "recipes").iterdir()}
    assert set(included) == there - {"recipes/measured"}


@pytest.mark.slow
def test_the_wheel_ships_recipes_pages_and_templates(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {f"mutransfer_cli/{path.relative_to(ROOT)}" for path in shipped_recipes().values()}
    data = [path for folder in DATA for path in (PACKAGE / folder).iterdir()]
    assert shipped | {f"{path.relative_to(ROOT)}" for path in data} <= set(names)
    assert not [name for name in names if "/measured/" in name]
    assert "mutransfer_cli/py.typed" in names
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = "from mutransfer_cli.spec.sources import load_spec; print(load_spec('quickstart')[1])"
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=site
    ).stdout
    assert out.strip() == str(site / "mutransfer_cli" / "recipes" / "quickstart.yaml")
