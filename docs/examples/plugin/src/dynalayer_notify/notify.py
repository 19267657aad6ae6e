"""An observer: after each sync a line of JSON goes to a file or a webhook."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from dynalayer import ConfigurationError, SyncResult, hookimpl

__all__ = ["Notify"]


class Notify:
    """Tells of every sync that folded something, and of every one that failed where nobody else is told.

    Args:
        to: A file, to which a line is appended, or the `http://` or `https://` URL of a webhook, which gets it by POST.
        timeout: Seconds that a webhook is given. A sync waits for it, so that it is short; it is not tried again.
        table: The layer's table, which the layer gives by itself.
    """

    name = "notify"

    def __init__(self, to: str, timeout: float = 2.0, *, table: str) -> None:
        if not 0 < timeout <= 30:
            raise ConfigurationError(f"notify: timeout is more than 0 and at most 30 seconds, not {timeout}")
        self._url = to if to.startswith(("http://", "https://")) else None
        self._path = None if self._url else Path(to).expanduser().absolute()
        self._timeout = timeout
        self._table = table

    @hookimpl
    def layer_synced(self, result: SyncResult) -> None:
        """Tell of a sync."""
        self._tell(
            {"table": self._table, "folded": result.count, "partitions": result.partitions, "cursor": result.cursor}
        )

    @hookimpl
    def layer_failed(self, operation: str, error: Exception) -> None:
        """Tell of what failed, but for this plugin's own failures: those would come here again."""
        if operation not in ("layer_synced", "layer_failed"):
            self._tell({"table": self._table, "failed": operation, "error": type(error).__name__})

    def _tell(self, what: dict[str, object]) -> None:
        # What this raises breaks nothing: the layer reports it, in its log and through layer_failed.
        line = json.dumps(what).encode() + b"\n"
        if self._path is not None:
            # One write to a file opened for appending: lines of several threads and processes do not mix.
            with self._path.open("ab", buffering=0) as file:
                file.write(line)
        if self._url is not None:
            request = urllib.request.Request(self._url, line, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=self._timeout):
                pass
