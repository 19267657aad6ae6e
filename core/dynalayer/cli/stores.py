"""What commands share that try a store out: folders, where it is made of them, are left as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dynalayer.urls import URL

__all__ = ["local_folder", "without_empty_folders"]


def local_folder(url: str) -> Path | None:
    """The folder that a URL names, `local:FOLDER` or `NAME+file:FOLDER`; None for every other URL."""
    parsed = URL.parse(url, what="URL")
    of_files = parsed.scheme == "local" or parsed.inner in ("file", "local")
    return Path(parsed.path(what="storage")) if of_files else None


@contextmanager
def without_empty_folders(folder: Path | None, table: str) -> Iterator[None]:
    """Take away, at the end, what is empty of a table's folders below a folder, and that itself if it was not there.

    Others may be at work there: their folders, which may be empty for a moment, stay.
    """
    new = folder is not None and not folder.exists()
    try:
        yield
    finally:
        if folder is not None:
            for path, _, _ in list(os.walk(folder, topdown=False)):
                if table in str(Path(path).relative_to(folder)) or (new and Path(path) == folder):
                    with suppress(OSError):  # it is not empty
                        Path(path).rmdir()
