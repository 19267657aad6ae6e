"""What is imported only when it is asked for, since it needs a package that is an extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from dynalayer.errors import ConfigurationError

__all__ = ["need"]


def need(module: str, what: str, *, packages: tuple[str, ...], install: str) -> ModuleType:
    """Import a module.

    Args:
        module: Its name.
        what: What it is needed for, for the error.
        packages: Those of others that it needs.
        install: What brings them.

    Raises:
        ConfigurationError: One of them is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:
            raise
        raise ConfigurationError(f"{what} needs {error.name}; pip install '{install}'") from error
