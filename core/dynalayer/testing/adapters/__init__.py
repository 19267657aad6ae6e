"""The conformance kit for adapters: every promise of `dynalayer.hookspecs`, as a test.

Whoever writes an adapter subclasses `AdapterConformance` and overrides one fixture::

    class TestMyAdapter(AdapterConformance):
        @pytest.fixture
        def place(self, tmp_path: Path) -> Place:
            return Place(open=lambda table: MyAdapter(tmp_path / table), raw=RawFolder(tmp_path))

A place is a store of its own, empty at first. Its raw access goes round the adapter: with it the kit damages what is
stored, and looks whether the adapter tells.
"""

from __future__ import annotations

from dynalayer.testing.adapters.abilities import AbilityPromises
from dynalayer.testing.adapters.catalogue import ODD_NAMES
from dynalayer.testing.adapters.columns import ColumnPromises
from dynalayer.testing.adapters.contents import ContentPromises
from dynalayer.testing.adapters.damage import DamagePromises
from dynalayer.testing.adapters.faults import FaultPromises
from dynalayer.testing.adapters.layers import LayerPromises
from dynalayer.testing.adapters.places import Place, Raw, RawDict, RawFiles, RawFolder
from dynalayer.testing.adapters.racing import RacePromises
from dynalayer.testing.adapters.refs import RefPromises
from dynalayer.testing.adapters.upkeep import UpkeepPromises

__all__ = ["ODD_NAMES", "AdapterConformance", "Place", "Raw", "RawDict", "RawFiles", "RawFolder"]


class AdapterConformance(
    ContentPromises,
    RefPromises,
    UpkeepPromises,
    DamagePromises,
    AbilityPromises,
    ColumnPromises,
    LayerPromises,
    FaultPromises,
    RacePromises,
):
    """What every adapter must do. Subclass it, and override the fixture `place`; see `Promises` for what may be set."""
