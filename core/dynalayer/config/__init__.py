"""Configuration: what files, the environment and options say of a layer, setting by setting, and where it is from."""

from dynalayer.config.given import Source, Value
from dynalayer.config.hiding import shown
from dynalayer.config.options import LayerOptions
from dynalayer.config.sources import DEFAULT_TABLE, Configuration, Sources

__all__ = ["DEFAULT_TABLE", "Configuration", "LayerOptions", "Source", "Sources", "Value", "shown"]
