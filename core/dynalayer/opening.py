"""From what a user gives (a URL, an object, a list) to an event log and a storage."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import ModuleType

import pluggy

from dynalayer.errors import ConfigurationError, LayerError, PluginError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.events import check_table
from dynalayer.hookspecs import Adapter, Capabilities, Wrapper
from dynalayer.optional import need
from dynalayer.plugins import ADAPTERS, load, register
from dynalayer.storage import Storage
from dynalayer.urls import URL

__all__ = ["DEFAULT_EVENTS", "DEFAULT_STORAGE", "StorageOption", "need_dynamodb", "open_event_log", "open_storage"]

DEFAULT_EVENTS = "sqlite:///.dynalayer/events.db"
DEFAULT_STORAGE = "local:.dynalayer/snapshots"

StorageOption = str | Adapter | Wrapper
"""A URL or an object: an adapter, or a wrapper that makes an adapter around an adapter."""


def _sqlite(url: URL, table: str, *, create: bool) -> EventLog:
    url.refuse_options()
    url.refuse_null_byte(what="events")
    if not url.location.startswith("///") or not url.location.strip("/"):
        raise ConfigurationError(
            "events: write sqlite:///relative/path.db or sqlite:////absolute/path.db, with three or four slashes"
        )
    return SQLiteEventLog(url.location[3:], table, create=create)


def _memory(url: URL, table: str, *, create: bool) -> EventLog:
    url.refuse_options()
    if not create:
        raise ConfigurationError("events: memory: is empty when it is opened, so that there is nothing to look at")
    if url.location:
        raise ConfigurationError(f"events: memory: takes no path, and got {url.location!r}")
    return MemoryEventLog(table)


def _dynamodb(url: URL, table: str, *, create: bool) -> EventLog:
    log: EventLog = need_dynamodb().open_log(url, table, create=create)
    return log


def need_dynamodb() -> ModuleType:
    """The module of the DynamoDB log, imported only when it is asked for: boto3 is an extra, and takes a while.

    Raises:
        ConfigurationError: boto3 is not installed.
    """
    return need(
        "dynalayer.eventlog.dynamodb",
        "the DynamoDB event log",
        packages=("boto3", "botocore"),
        install="dynalayer[dynamodb]",
    )


_EVENT_LOGS = {"dynamodb": _dynamodb, "memory": _memory, "sqlite": _sqlite}


def open_event_log(events: str | EventLog, table: str, *, create: bool = True) -> EventLog:
    """The event log that a URL names, or the one given.

    Args:
        events: The URL, or the log.
        table: The layer's table.
        create: Whether it may be made; else one that is not there is an error.

    Raises:
        ConfigurationError: The URL is wrong, the table's name is none, or the log is another table's.
        EventLogError: It cannot be opened.
    """
    check_table(table)
    if isinstance(events, str):
        url = URL.parse(events, what="events")
        if url.scheme not in _EVENT_LOGS:
            raise ConfigurationError(
                f"there is no event log {url.scheme!r}; there are: {', '.join(sorted(_EVENT_LOGS))}"
            )
        return _EVENT_LOGS[url.scheme](url, table, create=create)
    if not isinstance(events, EventLog):
        raise ConfigurationError(f"events is a URL or an EventLog, not {type(events).__name__}")
    if events.table != table:
        raise ConfigurationError(
            f"the event log given is for table {events.table!r}, the layer for {table!r}: "
            "one log object serves one layer"
        )
    return events


def open_storage(
    storage: StorageOption | Sequence[StorageOption], table: str, manager: pluggy.PluginManager
) -> Storage:
    """The storage that a URL, an adapter or a list names, registered with the layer's plugin manager.

    A list begins with the outermost wrapper and ends with the store.

    Raises:
        ConfigurationError: A URL is wrong, or the list is no stack of wrappers around an adapter.
        PluginError: An adapter is not installed, cannot be loaded, or does not keep to the contract.
    """
    parts = list(storage) if isinstance(storage, list | tuple) else [storage]
    if not parts:
        raise ConfigurationError("storage is an empty list; it ends with the store, as in ['local:snapshots']")
    opened = [_open(part, table) for part in parts]
    store, distribution = opened[-1]
    adapter = _checked(store, distribution)
    for wrapper, wrapper_distribution in reversed(opened[:-1]):
        if not isinstance(wrapper, Wrapper):
            raise ConfigurationError(
                f"storage: {_label(wrapper)} stands in front of {adapter.name} and cannot wrap it: it has no around(); "
                "a list ends with the one store"
            )
        adapter, distribution = _wrapped(wrapper, adapter, wrapper_distribution), wrapper_distribution
    register(manager, adapter, adapter.name)
    hooks = {caller.name for caller in manager.get_hookcallers(adapter) or []}
    needed = {"layer_setter", "layer_getter"}
    if adapter.capabilities.listing:
        needed |= {"layer_discard", "layer_list"}
    if adapter.capabilities.publishing:
        needed |= {"layer_publish"}
    if adapter.capabilities.columns:
        needed |= {"layer_columns", "layer_columns_setter"}
    if needed - hooks:
        raise PluginError(
            f"adapter {adapter.name!r} does not mark {', '.join(sorted(needed - hooks))} with hookimpl"
        ).within(adapter=adapter.name, distribution=distribution)
    return Storage(manager, name=adapter.name, distribution=distribution, capabilities=adapter.capabilities)


def _open(part: object, table: str) -> tuple[object, str | None]:
    if not isinstance(part, str):
        return part, None
    url = URL.parse(part, what="storage")
    found = load(ADAPTERS, url.name)
    from_url = getattr(found.value, "from_url", None)
    if not callable(from_url):
        raise PluginError(
            f"adapter {url.name!r} of {found.distribution} cannot be opened by a URL: it has no from_url()"
        )
    try:
        return from_url(url, table), found.distribution
    except LayerError as error:
        raise error.within(adapter=url.name, distribution=found.distribution)  # noqa: B904 -- the same error
    except Exception as error:
        raise PluginError(
            f"adapter {url.name!r} could not be opened: {type(error).__name__}: {error}",
            adapter=url.name,
            distribution=found.distribution,
        ) from error


def _wrapped(wrapper: Wrapper, adapter: Adapter, distribution: str | None) -> Adapter:
    try:
        outer = wrapper.around(adapter)
    except LayerError:
        raise
    except Exception as error:
        raise PluginError(
            f"{_label(wrapper)} could not be put around {adapter.name}: {type(error).__name__}: {error}",
            distribution=distribution,
        ) from error
    return _checked(outer, distribution)


def _checked(adapter: object, distribution: str | None) -> Adapter:
    if (
        inspect.isclass(adapter)
        or not isinstance(adapter, Adapter)
        or not isinstance(adapter.capabilities, Capabilities)
    ):
        hint = ""
        if inspect.isclass(adapter):
            hint = "; this is a class: give its object"
        elif isinstance(adapter, Wrapper):
            hint = "; it is a wrapper, and a list of storage ends with the store"
        raise PluginError(
            f"{_label(adapter)} is no adapter: one has a name, capabilities, layer_setter, layer_getter, "
            f"layer_discard and layer_list{hint}",
            distribution=distribution,
        )
    return adapter


def _label(thing: object) -> str:
    return str(getattr(thing, "name", None) or type(thing).__name__)
