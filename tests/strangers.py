"""Distributions of strangers, for tests."""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a stranger's distribution of one module, the way pip leaves one behind; uninstalls it in the end."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    modules: list[str] = []

    def installed_now(
        distribution: str, source: str, *, requires: Sequence[str] = (), **entry_points: dict[str, str]
    ) -> str:
        module = f"{distribution.replace('-', '_')}_of_{tmp_path.name}".replace("[", "_").replace("]", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        metadata = [f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2"]
        metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
        metadata += [f"Provides-Extra: {extra}" for extra in re.findall(r"""extra == ['"](\w+)""", " ".join(requires))]
        (info / "METADATA").write_text("\n".join(metadata) + "\n")
        lines = []
        for kind, names in entry_points.items():
            lines.append(f"[dynalayer.{kind}]")
            lines += [f"{name} = {module}:{attribute}" for name, attribute in names.items()]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()
        return module

    yield installed_now
    for module in modules:
        sys.modules.pop(module, None)
