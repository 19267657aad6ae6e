"""Tools to test with.

The conformance kit for adapters is `dynalayer.testing.adapters`; its names are here too, and imported when they are
asked for: the kit needs pytest (`pip install 'dynalayer[testing]'`), what else is here does not.
"""

import typing

if typing.TYPE_CHECKING:
    from dynalayer.testing.adapters import AdapterConformance, Place, Raw, RawDict, RawFiles, RawFolder

__all__ = ["AdapterConformance", "Place", "Raw", "RawDict", "RawFiles", "RawFolder"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dynalayer.testing import adapters  # noqa: PLC0415 -- it needs pytest, and dynalayer.testing.faults does not

    return getattr(adapters, name)
