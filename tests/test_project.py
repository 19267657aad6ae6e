"""The project's own files agree with one another."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dynalayer

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def folders(parent: str) -> list[Path]:
    return sorted(path.parent for path in (ROOT / parent).glob("*/__init__.py"))


def test_every_adapter_and_plugin_is_packaged_and_has_an_entry_point() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    points = PROJECT["project"]["entry-points"]
    found = set(points["dynalayer.adapters"].values())
    # A wrapper is a plugin, and found among the adapters that it stands around.
    for parent, values in (("adapters", found), ("plugins", found | set(points["dynalayer.plugins"].values()))):
        for folder in folders(parent):
            assert f"{parent}/{folder.name}" in packages
            assert any(value.startswith(f"{folder.name}:") for value in values)
            assert folder.name in PROJECT["tool"]["importlinter"]["root_packages"]
            assert (folder / "py.typed").exists()
    assert len(packages) == 1 + len(folders("adapters")) + len(folders("plugins"))


def test_every_entry_point_of_ours_loads() -> None:
    for group, points in PROJECT["project"]["entry-points"].items():
        for name in points:
            (point,) = {found.value: found for found in entry_points(group=group, name=name)}.values()
            assert point.load() is not None


def test_importing_dynalayer_imports_no_adapter_and_no_plugin() -> None:
    code = "import sys, dynalayer; print(*sorted(name for name in sys.modules if name.startswith('dynalayer_')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_no_module_has_grown_past_what_one_idea_needs() -> None:
    """Past 400 lines it is time to ask which two ideas a module holds; what stands here has been asked."""
    asked = {
        "testing/eventlog.py",  # a kit is one test after another
        "eventlog/base.py",  # a contract is its words
        "layer.py",  # so is a face
        "eventlog/sqlite.py",  # a log is one method a promise
        "eventlog/dynamodb/log.py",  # likewise
    }
    core = Path(dynalayer.__file__).parent
    for path in core.rglob("*.py"):
        if path.relative_to(core).as_posix() not in asked:
            assert len(path.read_text().splitlines()) <= 400, path.name


def test_no_lock_file_is_kept() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    kept = done.stdout.splitlines() if done.returncode == 0 else [path.name for path in ROOT.iterdir()]
    assert not [name for name in kept if name.endswith(".lock")]
