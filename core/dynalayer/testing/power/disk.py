"""A disk that knows what was flushed, and what a power cut can leave of the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from dynalayer.testing.power.recording import Operation, Recording

__all__ = ["STYLES", "Disk", "Style"]

Style = Literal["nothing", "everything", "some", "sectors", "torn"]
"""What a power cut leaves of that which was not flushed.

`nothing`: nothing. `everything`: all of it. `some`: any part of the writes and of the new names. `sectors`: any
sectors of the writes, and a file may have grown all the same. `torn`: what was done up to a moment, the last write
up to a sector.
"""

STYLES: tuple[Style, ...] = get_args(Style)

_SECTOR = 512  # what a disk writes whole or not at all


@dataclass(frozen=True, slots=True)
class _Write:
    """A write to a file; one of no data cuts it off, or lets it grow."""

    moment: int
    offset: int
    data: bytes | None


@dataclass(eq=False, slots=True)
class _File:
    flushed: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Folder:
    now: dict[str, _File | _Folder] = field(default_factory=dict)
    flushed: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[tuple[int, dict[str, _File | _Folder | None]]] = field(default_factory=list)

    def change(self, moment: int, names: dict[str, _File | _Folder | None]) -> None:
        self.pending.append((moment, names))
        _rename(self.now, names)


class Disk:
    """Plays a recording back, operation by operation.

    Writes and new names that were not flushed may be lost each for itself, in any order, as the standard allows, even
    where a file system would keep more. A rename within one folder is there or not, as a whole. Sectors of 512 bytes
    are written whole or not at all, and a cut harms nothing that was flushed.

    Args:
        recording: Whose. Its operations are given to `apply` one by one: some may be left out, as if they had never
            been.
    """

    def __init__(self, recording: Recording) -> None:
        self._root = _Folder()
        self._by_inode: dict[int, _File | _Folder] = {recording.inode: self._root}
        self._moment = 0

    def apply(self, operation: Operation) -> None:
        """Do what the program did next."""
        self._moment += 1
        match operation.kind:
            case "create" | "make folder":
                made = _File() if operation.kind == "create" else _Folder()
                self._by_inode[operation.inode] = made
                folder, name = self._place(operation.path)
                folder.change(self._moment, {name: made})
            case "write":
                self._file(operation).pending.append(_Write(self._moment, operation.number, operation.data))
            case "truncate":
                self._file(operation).pending.append(_Write(self._moment, operation.number, None))
            case "flush":
                _flush(self._by_inode[operation.inode])
            case "rename" | "link" | "remove":
                self._name(operation)

    def _name(self, operation: Operation) -> None:
        folder, name = self._place(operation.path)
        gone = {} if operation.kind == "link" else {name: None}
        if not operation.to:
            folder.change(self._moment, {**gone})
            return
        target, new = self._place(operation.to)
        node = folder.now[name]
        if target is folder:
            folder.change(self._moment, {**gone, new: node})
        else:
            target.change(self._moment, {new: node})
            folder.change(self._moment, {**gone})

    def now(self, path: str) -> bytes:
        """What a file holds for the programs that run; empty where there is none."""
        folder, name = self._place(path)
        found = folder.now.get(name)
        return bytes(_written(bytearray(found.flushed), iter(found.pending))) if isinstance(found, _File) else b""

    def names(self) -> list[str]:
        """The paths of all files that there are for the programs that run, sorted."""
        return sorted(_files(self._root, ""))

    def cut(self, into: Path, style: Style, rng: random.Random) -> None:
        """Leave what a power cut at this moment could have left.

        Args:
            into: A folder that is made for it.
            style: What is left of that which was not flushed.
            rng: Decides where there is a choice.
        """
        _leave(self._root, into, _Cut(style, rng, tuple(sorted(_moments(self._root)))))

    def _place(self, path: str) -> tuple[_Folder, str]:
        *above, name = path.split("/")
        folder = self._root
        for each in above:
            below = folder.now[each]
            assert isinstance(below, _Folder)
            folder = below
        return folder, name

    def _file(self, operation: Operation) -> _File:
        file = self._by_inode[operation.inode]
        assert isinstance(file, _File)
        return file


class _Cut:
    """What one power cut leaves."""

    def __init__(self, style: Style, rng: random.Random, moments: tuple[int, ...]) -> None:
        self._random = rng
        self._style = style
        self._share = rng.choice((0.1, 0.5, 0.9))
        self._torn = rng.choice(moments) if moments else 0

    def keeps(self, moment: int) -> bool:
        if self._style == "torn":
            return moment <= self._torn
        if self._style in ("nothing", "everything"):
            return self._style == "everything"
        return self._random.random() < self._share

    def writes(self, file: _File) -> Iterator[_Write]:
        for write in file.pending:
            if self._style == "sectors" and write.data is not None:
                yield from self._sectors(write, write.data)
            elif self.keeps(write.moment):
                yield self._tear(write) if self._style == "torn" and write.moment == self._torn else write

    def _sectors(self, write: _Write, data: bytes) -> Iterator[_Write]:
        end = write.offset + len(data)
        grows = self._random.random() < 0.5
        start = write.offset
        while start < end:
            stop = min(end, (start // _SECTOR + 1) * _SECTOR)
            if self.keeps(write.moment):
                yield _Write(write.moment, start, data[start - write.offset : stop - write.offset])
            elif grows:
                yield _Write(write.moment, stop, b"")
            start = stop

    def _tear(self, write: _Write) -> _Write:
        if write.data is None:
            return write
        sectors = (write.offset + len(write.data) - 1) // _SECTOR - write.offset // _SECTOR + 1
        stop = (write.offset // _SECTOR + self._random.randint(0, sectors)) * _SECTOR
        return _Write(write.moment, write.offset, write.data[: max(0, stop - write.offset)])


def _leave(folder: _Folder, into: Path, cut: _Cut) -> None:
    into.mkdir()
    names = dict(folder.flushed)
    for moment, changed in folder.pending:
        if cut.keeps(moment):
            _rename(names, changed)
    for name, node in names.items():
        if isinstance(node, _Folder):
            _leave(node, into / name, cut)
        else:
            (into / name).write_bytes(_written(bytearray(node.flushed), cut.writes(node)))


def _flush(node: _File | _Folder) -> None:
    if isinstance(node, _File):
        node.flushed = _written(node.flushed, iter(node.pending))
    else:
        node.flushed = dict(node.now)
    node.pending.clear()


def _written(data: bytearray, writes: Iterator[_Write]) -> bytearray:
    for write in writes:
        if write.offset > len(data):
            data.extend(bytes(write.offset - len(data)))
        if write.data is None:
            del data[write.offset :]
        else:
            data[write.offset : write.offset + len(write.data)] = write.data
    return data


def _rename(names: dict[str, _File | _Folder], changed: dict[str, _File | _Folder | None]) -> None:
    for name, node in changed.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _files(folder: _Folder, above: str) -> Iterator[str]:
    for name, node in folder.now.items():
        if isinstance(node, _Folder):
            yield from _files(node, f"{above}{name}/")
        else:
            yield f"{above}{name}"


def _moments(folder: _Folder) -> Iterator[int]:
    yield from (moment for moment, _ in folder.pending)
    for node in {id(node): node for node in (*folder.flushed.values(), *folder.now.values())}.values():
        if isinstance(node, _Folder):
            yield from _moments(node)
        else:
            yield from (write.moment for write in node.pending)
