"""The first minutes of an adapter's author: `new-adapter`."""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from dynalayer.cli.options import reported
from dynalayer.plugins import ADAPTERS, installed

__all__ = ["FILES", "new_adapter"]

_TEMPLATES = files("dynalayer.cli").joinpath("adapter_template")
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "src/__init__.py": "src/$package/__init__.py",
    "src/adapter.py": "src/$package/adapter.py",
    "src/py.typed": "src/$package/py.typed",
    "tests/test_conformance.py": "tests/test_conformance.py",
    "tests/test_adapter.py": "tests/test_adapter.py",
}
"""Template to the file that it becomes."""

_PREFIX = "dynalayer-"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 30  # lines of what is written hold it more than once


@click.command("new-adapter")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to make; left out: dynalayer-NAME, here.",
)
def new_adapter(name: str, into: Path | None) -> None:
    """Write a distribution with a storage adapter of your own, for storage="NAME:…".

    It works at once, on a SQLite file, and its tests pass; every place where your store comes in is marked.
    """
    name = _checked(name.removeprefix(_PREFIX))
    words = {
        "name": name,
        "distribution": _PREFIX + name,
        "package": _package(name),
        "adapter": "".join(part.capitalize() for part in name.split("-")) + "Adapter",
        "version": version("dynalayer").partition("+")[0],
    }
    folder = into or Path(words["distribution"])
    if folder.exists() or folder.is_symlink():
        raise click.UsageError(f"{folder} is there already; name a new folder with --into")
    with reported():
        try:
            _write(folder, words)
        except OSError as error:
            raise click.ClickException(f"{folder} could not be written: {error.strerror or error}") from error
    click.echo(
        f'{words["distribution"]} is in {folder}, for storage="{name}:…". Next, in an environment of its own:\n'
        f"  cd {folder}\n"
        "  python -m pip install --editable '.[test]'\n"
        "  python -m pytest\n"
        f"then look for YOUR STORE in src/{words['package']}/adapter.py"
    )


def _checked(name: str) -> str:
    """The name, where it may stand in a URL, and makes a distribution and a package that nobody has here.

    Raises:
        click.UsageError: It may not, or somebody has them.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise click.UsageError(
            f"{name[: 2 * _LONGEST]!r} is no name for an adapter: one is at most {_LONGEST} lower-case letters, digits "
            "and single hyphens, and begins with a letter, as in 'redis' or 'my-store'"
        )
    for other in installed(ADAPTERS):
        if other.name == name:
            raise click.UsageError(f"{other.distribution} has an adapter {name!r}; take another name")
    if importlib.util.find_spec(_package(name)) is not None:
        raise click.UsageError(f"a package {_package(name)} is installed; take another name")
    return name


def _package(name: str) -> str:
    return (_PREFIX + name).replace("-", "_")


def _write(folder: Path, words: Mapping[str, str]) -> None:
    """Write all files, and give the folder its name when they are whole."""
    made = [parent for parent in folder.parents if not parent.exists()]
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        for source, target in FILES.items():
            text = Template(_TEMPLATES.joinpath(f"{source}.template").read_text("utf-8")).substitute(words)
            path = part / Template(target).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise
