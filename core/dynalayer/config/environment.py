"""Settings from the environment: `DYNALAYER_TTL` for whichever layer is used, `DYNALAYER_USERS__TTL` for one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dynalayer.config.given import Said, Source, Value
from dynalayer.config.kinds import SETTINGS
from dynalayer.errors import ConfigurationError
from dynalayer.settings import nearest

__all__ = ["CONFIG", "LAYER", "read_environment", "selection"]

PREFIX = "DYNALAYER_"
CONFIG = f"{PREFIX}CONFIG"
"""Names the configuration file."""

LAYER = f"{PREFIX}LAYER"
"""Names the layer."""

_TESTS = f"{PREFIX}TEST_"  # what only this project's own tests read
_SETTINGS = {name.upper(): name for name in SETTINGS}


def read_environment(environ: Mapping[str, str], layers: Iterable[str]) -> Said:
    """What the environment says.

    Args:
        environ: The environment.
        layers: The names of all layers that files know.

    Raises:
        ConfigurationError: A variable that begins with `DYNALAYER_` says nothing that is known (the nearest right name
            is told), could be meant for two layers, or has a wrong value.
    """
    common: dict[str, Value] = {}
    of_layers: dict[str, dict[str, Value]] = {layer: {} for layer in layers}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in (CONFIG, LAYER):
            continue
        before, separator, setting = variable.removeprefix(PREFIX).rpartition("__")
        layer = _layer(variable, before, of_layers) if separator else None
        if not separator and variable.startswith(_TESTS):
            continue
        if separator and layer is None:
            words = [f"{PREFIX}{_written(each)}__{setting}" for each in of_layers]
            raise ConfigurationError(f"{variable:.200}: no file has a layer of that name{nearest(variable, words)}")
        if setting not in _SETTINGS:
            start = variable.removesuffix(setting)
            words = [f"{start}{name}" for name in _SETTINGS] + ([] if separator else [CONFIG, LAYER])
            raise ConfigurationError(f"there is no setting {variable:.200}{nearest(variable, words)}")
        name, source = _SETTINGS[setting], Source("environment", variable)
        values = common if layer is None else of_layers[layer]
        values[name] = Value(SETTINGS[name].read(environ[variable], source), source)
    return Said("the environment", common, of_layers)


def selection(environ: Mapping[str, str], variable: str) -> str | None:
    """What a variable says that is no setting; None where it is not set.

    Raises:
        ConfigurationError: It is empty.
    """
    if environ.get(variable) == "":
        raise ConfigurationError(f"{variable} is empty; unset it, or name one")
    return environ.get(variable)


def _written(layer: str) -> str:
    return re.sub(r"[-.]", "_", layer.upper())


def _layer(variable: str, before: str, layers: Iterable[str]) -> str | None:
    meant = [layer for layer in layers if _written(layer) == before]
    if len(meant) > 1:
        raise ConfigurationError(
            f"{variable} could be meant for the layers {' and '.join(sorted(meant))}; rename one, or say it in a file"
        )
    return meant[0] if meant else None
