"""Our adapters keep every promise of the kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynalayer.testing import AdapterConformance, Place, RawFolder
from dynalayer_local import LocalAdapter


class TestLocalAdapter(AdapterConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(open=lambda table: LocalAdapter(tmp_path / table), raw=RawFolder(tmp_path))
