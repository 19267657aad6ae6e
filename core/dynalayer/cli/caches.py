"""Plain caches: JSON arrays of partitions' items, as other programs keep them; where they are and what they hold."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from dynalayer.errors import ConfigurationError, InvalidInputError, LayerError, StorageError
from dynalayer.optional import need
from dynalayer.urls import URL
from dynalayer.values import UNDECODABLE

__all__ = ["Cache", "find_caches"]

_GZIP_MAGIC = b"\x1f\x8b"
_SUFFIXES = (".json", ".json.gz")
_S3_OPTIONS = {"endpoint_url": "endpoint_url", "region": "region_name"}


@dataclass(frozen=True, slots=True)
class Cache:
    """One partition's cache.

    Attributes:
        name: What people call it.
        partition: The partition.
        read: Gives its bytes, gzip or plain.
    """

    name: str
    partition: str
    read: Callable[[], bytes]

    def items(self, *, floats: bool) -> list[Any]:
        """The array.

        Args:
            floats: Whether a number with a fraction or an exponent is a float; else it is the Decimal that it says.

        Raises:
            InvalidInputError: It is no whole JSON array; names the cache and where it is wrong.
            StorageError: It cannot be read.
        """
        data = self.read()
        try:
            if data[:2] == _GZIP_MAGIC:
                data = gzip.decompress(data)
            if not data.strip():
                raise self._refused("it is empty; where a partition has no items that is []")
            found = json.loads(data, parse_float=float if floats else _decimal, parse_constant=_refuse)
        except (EOFError, OSError, zlib.error) as error:
            raise self._refused(f"its gzip is truncated or damaged: {error}") from error
        except LayerError:
            raise
        except UNDECODABLE as error:
            raise self._refused(f"no JSON, or cut short: {error}") from error
        if type(found) is not list:
            raise self._refused(f"a cache is a JSON array of items; this is {_KINDS[type(found)]}")
        return found

    def _refused(self, reason: str) -> InvalidInputError:
        return InvalidInputError(f"{self.name}: {reason}", operation="import", partition=self.partition)


_KINDS = {
    dict: "an object",
    str: "a text",
    int: "a number",
    float: "a number",
    Decimal: "a number",
    bool: "true or false",
    type(None): "null",
}


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of very many digits
        raise ValueError(f"{text:.50} is no number that can be kept") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")


def find_caches(sources: Sequence[str], partition: str | None, stdin: IO[bytes]) -> list[Cache]:
    """The caches that sources name: files, folders, URLs of fsspec's, or `-` for standard input.

    Args:
        sources: The sources.
        partition: The partition of the only one; left out, a file's name without `.json`, in a folder its path below.
        stdin: Standard input.

    Raises:
        InvalidInputError: One is not there or holds none, two are of one partition, or `partition` does not fit.
        StorageError: One cannot be looked into.
    """
    found = [cache for source in sources for cache in _find(source, partition, stdin)]
    if partition is not None and len(found) > 1:
        raise InvalidInputError(f"--partition {partition!r} names one, and there are {len(found)} caches")
    names: dict[str, str] = {}
    for cache in found:
        if cache.partition in names:
            raise InvalidInputError(
                f"{names[cache.partition]} and {cache.name} are both of partition {cache.partition!r}; name one of them"
            )
        names[cache.partition] = cache.name
    return found


def _find(source: str, partition: str | None, stdin: IO[bytes]) -> list[Cache]:
    if source == "-":
        if partition is None:
            raise InvalidInputError("of standard input nothing tells the partition; name it with --partition")
        return [Cache("<stdin>", partition, stdin.read)]
    if "://" in source:
        return list(_remote(source, partition))
    path = Path(source)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*.json*")) if file.is_file() and file.name.endswith(_SUFFIXES)]
        if not files:
            raise InvalidInputError(f"{source}: there is no file *.json below this folder")
        return [
            Cache(str(file), _named(file.relative_to(path).as_posix(), partition), file.read_bytes) for file in files
        ]
    if not path.exists():
        raise InvalidInputError(f"{source}: there is no such file or folder")
    return [Cache(source, _named(path.name, partition), path.read_bytes)]


def _named(path: str, partition: str | None) -> str:
    return path.removesuffix(".gz").removesuffix(".json") if partition is None else partition


def _remote(source: str, partition: str | None) -> Iterator[Cache]:
    """The caches at a URL: those below it, or the one."""
    url = URL.parse(source, what="a source")
    name = f"{url.scheme}:{url.location}"
    system = _file_system(url, name)

    def asked(what: Callable[..., Any], *arguments: object) -> Any:
        try:
            return what(*arguments)
        except Exception as error:
            raise StorageError(f"could not read {name}: {type(error).__name__}: {error}") from error

    root = str(system._strip_protocol(name)).rstrip("/")  # noqa: SLF001 -- fsspec has no public word for it
    if not name.endswith("/") and asked(system.isfile, root):
        yield Cache(name, _named(root.rpartition("/")[2], partition), partial(asked, system.cat_file, root))
        return
    paths = [path for path in asked(system.find, root) if path.endswith(_SUFFIXES)]
    if not paths:
        raise InvalidInputError(f"{name}: there is nothing, or nothing called *.json below it")
    for path in paths:
        below = path.removeprefix(f"{root}/")
        yield Cache(f"{url.scheme}://{path}", _named(below, partition), partial(asked, system.cat_file, path))


def _file_system(url: URL, name: str) -> Any:
    options: dict[str, Any] = {}
    if url.scheme == "s3":
        url.refuse_options(frozenset(_S3_OPTIONS))
        options["client_kwargs"] = {_S3_OPTIONS[key]: value for key, value in url.options.items()}
    else:
        url.refuse_options()
    fsspec = need("fsspec", name, packages=("fsspec",), install="dynalayer[parquet]")
    try:
        return fsspec.filesystem(url.scheme, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        raise ConfigurationError(
            f"{name} needs a package that is not installed ({error}); for s3:// pip install 'dynalayer[parquet]'"
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}; of fsspec's file systems s3:// is one") from error
