"""Configuration files: which are read, and what they say."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynalayer.config.given import Said, Source, Value
from dynalayer.config.kinds import LAYER_NAME, SETTINGS
from dynalayer.errors import ConfigurationError
from dynalayer.settings import nearest

__all__ = ["FILES", "read_files"]

FILES = ("dynalayer.toml", "pyproject.toml")
"""What is looked for in the working directory, the stronger first."""

_LARGEST = 1024 * 1024  # bytes; a configuration is far below
_SECTION = "tool.dynalayer"


def read_files(config: str | os.PathLike[str] | None) -> tuple[Said, ...]:
    """What files say, the strongest first.

    Args:
        config: The one to read; left out, those of `FILES` that are there.

    Raises:
        ConfigurationError: One is not there though it was named, cannot be read, is no TOML (with the line), or has a
            key that is not known (with the nearest right one) or of the wrong kind.
    """
    if config is not None:
        said = _read(os.fspath(config), named=True)
        return (said,) if said else ()
    return tuple(said for name in FILES if (said := _read(name, named=False)) is not None)


def _read(name: str, *, named: bool) -> Said | None:
    data = _bytes(name, named=named)
    if data is None:
        return None
    try:
        found: Any = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name} is not UTF-8: byte {error.start} cannot be read") from None
    except RecursionError:
        raise ConfigurationError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise ConfigurationError(f"{name} is no TOML: {error}") from error
    if Path(name).name != "pyproject.toml":
        return _said(found, name, "")
    tool = found.get("tool")
    if not isinstance(tool, dict) or "dynalayer" not in tool:
        if named:
            raise ConfigurationError(f"{name} has no [{_SECTION}]")
        return None
    if not isinstance(tool["dynalayer"], dict):
        raise ConfigurationError(f"{name}: {_SECTION} is a table of settings, [{_SECTION}]")
    return _said(tool["dynalayer"], name, f"{_SECTION}.")


def _bytes(name: str, *, named: bool) -> bytes | None:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        if not named and not Path(name).is_symlink():  # a link that leads nowhere was meant
            return None
        raise ConfigurationError(f"there is no configuration file {name}") from None
    except (OSError, ValueError) as error:  # a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"the configuration file {name} cannot be read: {reason}") from error
    if len(data) > _LARGEST:
        raise ConfigurationError(f"{name} is larger than {_LARGEST:,} bytes, and no configuration file")
    return data


def _said(found: Mapping[str, object], name: str, prefix: str) -> Said:
    common = {key: value for key, value in found.items() if key != "layers"}
    layers = found.get("layers", {})
    where = f"{prefix}layers"
    if not isinstance(layers, dict):
        raise ConfigurationError(f"{name}: {where} is a table of layers, as in [{where}.users]")
    for layer, settings in layers.items():
        if not LAYER_NAME.fullmatch(layer):
            raise ConfigurationError(
                f"{name}: {where}: {layer!r:.100} is no layer's name: 1 to 255 of A-Z a-z 0-9 _ . -"
            )
        if not isinstance(settings, dict):
            raise ConfigurationError(f"{name}: {where}.{layer} is a table of settings, [{where}.{layer}]")
    return Said(
        name,
        _values(common, name, prefix),
        {layer: _values(settings, name, f"{where}.{layer}.") for layer, settings in layers.items()},
    )


def _values(settings: Mapping[str, object], name: str, prefix: str) -> dict[str, Value]:
    values: dict[str, Value] = {}
    top = "layers" not in prefix
    for key, given in settings.items():
        source = Source("file", name, f"{prefix}{key}")
        if key not in SETTINGS:
            hint = nearest(key, [*SETTINGS, "layers"] if top else SETTINGS)
            if top and isinstance(given, dict) and "did you mean" not in hint:
                hint = f"; settings of a layer stand in [{prefix}layers.{key:.100}]"
            raise ConfigurationError(f"{name}: there is no setting {f'{prefix}{key}'!r:.200}{hint}")
        values[key] = Value(SETTINGS[key].checked(given, source), source)
    return values
