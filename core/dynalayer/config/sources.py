"""All sources together: which layer is meant, and what is in force for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from dynalayer.config import environment
from dynalayer.config.files import FILES, read_files
from dynalayer.config.given import Said, Source, Value
from dynalayer.config.hiding import HIDDEN, hidden_texts
from dynalayer.config.kinds import SETTINGS
from dynalayer.config.references import is_reference, resolved
from dynalayer.errors import ConfigurationError, LayerError
from dynalayer.settings import nearest

__all__ = ["DEFAULT_TABLE", "Configuration", "Sources"]

DEFAULT_TABLE = "items"
"""The table where nothing names a layer or a table."""

_SHORTEST = 4  # characters; to take a shorter secret out of a text would leave nothing of the text
_SHORTEST_PART = 8  # of a path; a shorter one may be a word of the error's own, as in dynamodb://events
_CAUSES = 20


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is in force for one layer.

    Attributes:
        layer: Its name; None where no file names one.
        values: For each setting that is given somewhere the strongest value, and the table's.
    """

    layer: str | None
    values: Mapping[str, Value]

    def options(self) -> dict[str, Any]:
        """The layer's options: references read, functions imported. Those not given are left out.

        Raises:
            ConfigurationError: What a reference or a function's path names is not there.
        """
        return {
            name: value.given if value.source.kind == "option" else SETTINGS[name].as_option(value.given, value.source)
            for name, value in self.values.items()
        }

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let an error say where the settings are from, and nothing that is secret among them."""
        try:
            yield
        except LayerError as error:
            _without(error, self._secrets())
            names = dict.fromkeys(
                value.source.name for value in self.values.values() if value.source.kind in ("file", "environment")
            )
            if names and not any(name in str(error) for name in names):
                of = "" if self.layer is None else f" of layer {self.layer!r}"
                error.add_note(f"settings{of} come from {', '.join(names)}; `dynalayer config` shows each")
            raise

    def _secrets(self) -> set[str]:
        found: set[str] = set()
        for name, value in self.values.items():
            found.update(hidden_texts(value.given, name))
            found.update(_referred(value.given, value.source))
        return {text for text in found if len(text) >= _SHORTEST}


def _referred(value: object, source: Source) -> Iterator[str]:
    """The texts that references lead to."""
    if is_reference(value):
        try:
            text = str(resolved(value, source))
        except ConfigurationError:
            return
        yield text
        # An error may tell parts of a URL: its path, its options.
        location, _, query = text.partition(":")[2].partition("?")
        yield from (part for part in unquote(location).split("/") if len(part) >= _SHORTEST_PART)
        yield from (each for _, each in parse_qsl(query))
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _referred(each, source)


def _without(error: BaseException | None, secrets: set[str]) -> None:
    """Take texts out of an error and what caused it."""
    for _ in range(_CAUSES):
        if error is None or not secrets:
            return
        error.args = tuple(_cut(each, secrets) for each in error.args)
        if isinstance(error, OSError):
            error.filename = _cut(error.filename, secrets)
        if isinstance(error, LayerError):
            error.message = str(_cut(error.message, secrets))
        error = error.__cause__ or error.__context__


def _cut(text: object, secrets: set[str]) -> object:
    if isinstance(text, str):
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
    return text


@dataclass(frozen=True, slots=True)
class Sources:
    """What files and the environment say.

    Attributes:
        files: What files say, the strongest first.
        environment: What the environment says.
        selected: The layer that the environment selects.
    """

    files: tuple[Said, ...]
    environment: Said
    selected: str | None

    @classmethod
    def read(cls, config: str | os.PathLike[str] | None = None) -> Sources:
        """Read them.

        Args:
            config: The file to read; left out, the one that `DYNALAYER_CONFIG` names, or those in the working
                directory: `dynalayer.toml`, and `[tool.dynalayer]` of `pyproject.toml`.

        Raises:
            ConfigurationError: Something in them is wrong; names it and where it stands.
        """
        if not (config is None or isinstance(config, str | os.PathLike)):
            raise ConfigurationError(f"config is the path of a file, not {type(config).__name__}")
        environ = dict(os.environ)
        files = read_files(environment.selection(environ, environment.CONFIG) if config is None else config)
        names = {layer for said in files for layer in said.layers}
        return cls(
            files, environment.read_environment(environ, names), environment.selection(environ, environment.LAYER)
        )

    @property
    def layers(self) -> list[str]:
        """The names of all layers, sorted."""
        return sorted({layer for said in self.files for layer in said.layers})

    @property
    def any(self) -> bool:
        """Whether there is a file, or a setting in the environment."""
        return bool(self.files or self.environment.common)

    def configuration(self, name: str | None = None, options: Mapping[str, object] | None = None) -> Configuration:
        """What is in force for a layer.

        Args:
            name: The layer; left out, the one that the environment selects, or the only one.
            options: What was given beside the sources, and wins.

        Raises:
            ConfigurationError: There is no such layer (the nearest is told), several and none named, or no such option.
        """
        given = dict(options or {})
        for option in given:
            if option not in SETTINGS:
                raise ConfigurationError(f"a layer has no option {option!r:.100}{nearest(option, SETTINGS)}")
        layer = self._chosen(name)
        ranks: list[Mapping[str, Value]] = [
            {option: Value(value, Source("option", option)) for option, value in given.items()}
        ]
        for said in (self.environment, *self.files):
            ranks += [said.layers.get(layer, {}) if layer else {}, said.common]
        table = Value(layer or DEFAULT_TABLE, Source("default"))
        return Configuration(layer, _strongest([*ranks, {"table": table}]))

    def _chosen(self, name: str | None) -> str | None:
        if not (name is None or isinstance(name, str)):
            raise ConfigurationError(f"a layer's name is text, not {type(name).__name__}")
        layers = self.layers
        chosen = self.selected if name is None else name
        if chosen is not None and chosen not in layers:
            by = f" ({environment.LAYER})" if name is None else ""
            files = " and ".join(said.name for said in self.files)
            known = f"{files} has none of that name{nearest(chosen, layers)}"
            none = f"there is no {' or '.join(FILES)} with settings in the working directory"
            raise ConfigurationError(f"there is no layer {chosen!r:.100}{by}: {known if files else none}")
        if chosen is None and len(layers) > 1:
            raise ConfigurationError(
                f"there are several layers: {', '.join(layers)}; name one: --layer NAME, {environment.LAYER}=NAME, "
                "or Layer.from_config(NAME)"
            )
        return layers[0] if chosen is None and layers else chosen


def _strongest(ranks: list[Mapping[str, Value]]) -> dict[str, Value]:
    """For each setting the first value. `storage` and a plain pair stand in one another's place."""
    pair = min(_rank(ranks, "getter"), _rank(ranks, "setter"))
    storage = _rank(ranks, "storage")
    weaker = {"storage"} if pair < storage else {"getter", "setter"} if storage < pair else set()
    return {
        name: next(values[name] for values in ranks if name in values)
        for name in SETTINGS
        if name not in weaker and any(name in values for values in ranks)
    }


def _rank(ranks: list[Mapping[str, Value]], name: str) -> int:
    """Which source says a setting. One that leaves it out says nothing that could stand in another's place."""
    for rank, values in enumerate(ranks):
        if name in values:
            given = values[name].given
            return len(ranks) if given is None or given is False else rank
    return len(ranks)
