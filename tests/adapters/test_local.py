"""The local adapter: names, durability, damage, full disks, and who may discard what."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dynalayer import (
    URL,
    Adapter,
    Capabilities,
    ConfigurationError,
    EventLog,
    Layer,
    MemoryEventLog,
    Segment,
    SegmentCorruptError,
    SegmentMissingError,
    SQLiteEventLog,
    StorageError,
    safe_name,
)
from dynalayer.wrapping import WrappedAdapter
from dynalayer_local import LocalAdapter
from odd_names import ODD_NAMES, related, texts

ORIGIN = "0123456789abcdef"
TWO_DAYS = 2 * 24 * 3600


def segment_of(partition: str, value: int = 1, *, origin: str = ORIGIN, table: str = "users") -> Segment:
    return Segment(table, partition, origin, "base", 0, 1, {"one": {"sk": "one", "value": value}})


def layer_at(folder: Path, log: EventLog, **options: object) -> Layer:
    given: dict[str, object] = {"storage": f"local://{folder}", "table": "users"} | options
    return Layer(
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=log,
        **given,  # type: ignore[arg-type] # each test knows what it gives
    )


def put(layer: Layer, *identifiers: str, partition: str = "eu", value: object = 1) -> None:
    layer.set([{"type": "PUT", "item": {"pk": partition, "sk": each, "value": value}} for each in identifiers])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def expected(*identifiers: str, partition: str = "eu", value: object = 1) -> list[dict[str, object]]:
    return [{"pk": partition, "sk": each, "value": value} for each in sorted(identifiers)]


@pytest.fixture
def adapter(tmp_path: Path) -> LocalAdapter:
    return LocalAdapter(tmp_path / "snapshots")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with SQLiteEventLog(tmp_path / "events.db", "users") as log:
        yield log


# Names


def test_odd_partitions_get_folders_of_their_own_below_the_root_and_nowhere_else(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "snapshots"
    adapter = LocalAdapter(root)
    segments = {name: segment_of(name, number) for number, name in enumerate(ODD_NAMES)}
    refs = {name: adapter.layer_setter(name, segment) for name, segment in segments.items()}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == len(refs)
    assert {path.parent.parent for path in written} == {root}
    assert len({path.parent for path in written}) == len(refs)
    for name, ref in refs.items():
        assert adapter.layer_list(name) == [ref]
        assert adapter.layer_getter(name, ref) == segments[name]


def test_names_stay_apart_where_a_file_system_folds_case() -> None:
    names = {safe_name(name) for name in ODD_NAMES}
    assert len(names) == len({name.casefold() for name in names}) == len(set(ODD_NAMES))


@given(texts.flatmap(lambda text: st.tuples(st.just(text), related(text) | texts)))
@example(("x" * 300, "x" * 299 + "y"))
@example(("", "~empty"))
@settings(deadline=None)
def test_no_two_texts_get_one_name(pair: tuple[str, str]) -> None:
    one, other = pair
    assume(one != other)
    assert safe_name(one).casefold() != safe_name(other).casefold()


@given(texts)
@settings(deadline=None)
def test_a_name_is_a_plain_file_name_of_at_most_255_bytes(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 255
    assert "/" not in name
    assert "\0" not in name
    assert name.isascii()
    assert name.strip() == name
    assert not name.startswith(".")
    assert safe_name(text) == name


# Refs and roundtrips


def test_a_ref_is_the_file_name_and_holds_the_origin(adapter: LocalAdapter, tmp_path: Path) -> None:
    segment = segment_of("eu")
    ref = adapter.layer_setter("eu", segment)
    assert ref == f"{segment.name}.segment"
    assert ORIGIN in ref
    assert len(ref.encode()) <= 256
    assert files(tmp_path) == {f"snapshots/eu/{ref}"}


def test_a_segment_set_twice_is_one_file(adapter: LocalAdapter, tmp_path: Path) -> None:
    segment = segment_of("eu")
    assert adapter.layer_setter("eu", segment) == adapter.layer_setter("eu", segment)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "ref", ["", "x", "../us/one.segment", "/etc/passwd", "/srv/x.segment", "..", "one.segment/../../x", "x.json"]
)
def test_a_ref_of_another_kind_reaches_no_file(adapter: LocalAdapter, ref: str) -> None:
    adapter.layer_setter("us", segment_of("us"))
    with pytest.raises(StorageError, match="no ref of this adapter"):
        adapter.layer_getter("eu", ref)
    with pytest.raises(StorageError, match="no ref of this adapter"):
        adapter.layer_discard("eu", ref)


def test_a_partition_never_heard_of_has_no_segments(adapter: LocalAdapter, tmp_path: Path) -> None:
    assert list(adapter.layer_list("nobody")) == []
    assert adapter.layer_discard("nobody", "x.segment") is True
    with pytest.raises(SegmentMissingError, match="nobody"):
        adapter.layer_getter("nobody", "x.segment")
    assert not (tmp_path / "snapshots").exists()


# Durability


class Death(BaseException):
    """The process dies."""


def dying(*_: object, **__: object) -> NoReturn:
    raise Death


@pytest.mark.parametrize("where", ["fsync", "replace", "write"])
def test_a_crash_while_a_segment_is_written_leaves_nothing_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    adapter = LocalAdapter(tmp_path)
    kept = adapter.layer_setter("eu", segment_of("eu"))
    targets = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (Segment, "to_bytes")}
    with monkeypatch.context() as patch:
        patch.setattr(*targets[where], dying)
        patch.setattr(Path, "unlink", dying)  # the dead do not tidy up
        with pytest.raises(Death):
            adapter.layer_setter("eu", segment_of("eu", 2))
    assert adapter.layer_list("eu") == [kept]
    assert {path.name for path in tmp_path.rglob("*.segment")} == {kept}


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failure_while_a_segment_is_written_leaves_no_file_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    def failing(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    adapter = LocalAdapter(tmp_path)
    kept = adapter.layer_setter("eu", segment_of("eu"))
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{where}" if where == "fsync" else f"pathlib.Path.{where}", failing)
        with pytest.raises(StorageError, match=os.strerror(code)) as raised:
            adapter.layer_setter("eu", segment_of("eu", 2))
    assert raised.value.retryable == (code != errno.EIO)
    assert str(tmp_path) in str(raised.value)
    assert files(tmp_path) == {f"eu/{kept}"}


@pytest.mark.parametrize("failing", range(1, 5))
def test_a_sync_whose_flush_fails_leaves_everything_pending_and_the_next_one_works(
    tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    fsync, calls = os.fsync, iter(range(1, 1000))

    def sometimes(descriptor: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    with layer_at(tmp_path / "snapshots", log) as layer:
        put(layer, "one", "two")
        monkeypatch.setattr(os, "fsync", sometimes)
        with pytest.raises(StorageError, match="Input/output error"):
            layer.sync()
        assert (layer.meta().synced_total, layer.meta().unsynced_total) == (0, 2)
        assert layer.get("eu") == expected("one", "two")
        assert layer.sync().count == 2
        fresh = layer_at(tmp_path / "snapshots", log)
        assert fresh.get("eu") == expected("one", "two")
        layer.vacuum(dry_run=False)
        assert len(files(tmp_path / "snapshots")) == 1
        assert fresh.verify().findings == ()


def test_file_folder_and_every_new_folder_above_are_flushed_before_the_ref_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, replace = os.fsync, Path.replace
    steps: list[tuple[str, int]] = []

    def recording_fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        steps.append(("folder" if stat.S_ISDIR(found.st_mode) else f"file of {found.st_size}", found.st_ino))
        fsync(descriptor)

    def recording_replace(path: Path, target: Path) -> Path:
        steps.append(("replace", path.stat().st_ino))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    adapter = LocalAdapter(tmp_path / "above" / "root")
    segment = segment_of("eu")
    ref = adapter.layer_setter("eu", segment)

    folder = tmp_path / "above" / "root" / "eu"
    file = (folder / ref).stat()
    assert file.st_size == len(segment.to_bytes())
    assert steps[-3:] == [
        (f"file of {file.st_size}", file.st_ino),
        ("replace", file.st_ino),
        ("folder", folder.stat().st_ino),
    ]
    above = {("folder", path.stat().st_ino) for path in (tmp_path, tmp_path / "above", tmp_path / "above" / "root")}
    assert above <= set(steps[:-3])


def test_a_folder_that_another_made_and_did_not_live_to_flush_is_flushed_before_the_first_ref(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "snapshots"
    LocalAdapter(root).layer_setter("us", segment_of("us"))
    fsync = os.fsync
    flushed: set[int] = set()

    def recording(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    (root / "eu").mkdir()
    monkeypatch.setattr(os, "fsync", recording)
    LocalAdapter(root).layer_setter("eu", segment_of("eu"))
    assert {root.stat().st_ino, (root / "eu").stat().st_ino} <= flushed


# Damage


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    """A whole byte: there are single bits in a zstd frame that mean nothing."""
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0xFF
    path.write_bytes(data)


def missing(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swapped_for_one_of_other_content(path: Path) -> None:
    found = Segment.from_bytes(path.read_bytes(), source="")
    other = Segment(
        found.table, found.partition, found.origin, found.kind, found.from_version, found.to_version, found.items
    )
    path.write_bytes(other.to_bytes())


@pytest.mark.parametrize("damage", [flipped, missing, a_folder, swapped_for_one_of_other_content])
def test_a_damaged_segment_is_an_error_that_names_it_and_never_an_answer(
    tmp_path: Path, log: EventLog, damage: Callable[[Path], None]
) -> None:
    root = tmp_path / "snapshots"
    with layer_at(root, log) as layer:
        put(layer, *(f"item-{number}" for number in range(100)))
        put(layer, "other", partition="us")
        layer.sync()
        put(layer, "pending")
        (path,) = (root / "users" / "eu").iterdir()
        whole = path.read_bytes()
        damage(path)

        fresh = layer_at(root, log)
        with pytest.raises(StorageError, match=path.name) as raised:
            fresh.get("eu")
        assert isinstance(raised.value, SegmentMissingError if damage is missing else StorageError)
        assert raised.value.partition == "eu"
        assert raised.value.adapter == "local"
        with pytest.raises(StorageError, match=path.name):
            fresh.get("eu", at=1)
        assert [(each.partition, each.subject) for each in fresh.verify().findings] == [("eu", path.name)]
        assert fresh.get("us") == expected("other", partition="us")

        if path.is_dir():
            path.rmdir()
        path.write_bytes(whole)
        assert len(fresh.get("eu")) == 101
        assert fresh.verify().findings == ()


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), size=st.sampled_from([1, 100]))
@example(position=4, bit=4, size=100)  # in a zstd frame's header there is a bit that means nothing
@settings(deadline=None, max_examples=200)
def test_a_flipped_bit_is_an_error_or_changes_nothing(position: int, bit: int, size: int) -> None:
    items = {f"item-{number}": {"sk": f"item-{number}", "n": number} for number in range(size)}
    segment = Segment("users", "eu", ORIGIN, "base", 0, 1, items)
    data = bytearray(segment.to_bytes())
    data[position % len(data)] ^= 1 << bit
    try:
        found = Segment.from_bytes(bytes(data), source="where it is from")
    except SegmentCorruptError as error:
        found = None
        named = "where it is from" in str(error)
    assert found == segment if found else named


@given(length=st.integers(0, 10_000), size=st.sampled_from([1, 100]))
@settings(deadline=None, max_examples=100)
def test_no_truncation_goes_unseen(length: int, size: int) -> None:
    items = {f"item-{number}": {"sk": f"item-{number}", "n": number} for number in range(size)}
    data = Segment("users", "eu", ORIGIN, "base", 0, 1, items).to_bytes()
    with pytest.raises(SegmentCorruptError, match="where it is from"):
        Segment.from_bytes(data[: length % len(data)], source="where it is from")


class WithoutDeltas:
    """A wrapper for a `storage` list: the store behind it keeps bases only."""

    def around(self, inner: Adapter) -> Adapter:
        adapter = WrappedAdapter(inner)
        adapter.capabilities = Capabilities(deltas=False)
        return adapter


@pytest.mark.parametrize("damage", [cut_short, missing, flipped, swapped_for_one_of_other_content])
def test_a_sync_that_needs_a_damaged_segment_fails_and_leaves_everything_pending(
    tmp_path: Path, log: EventLog, damage: Callable[[Path], None]
) -> None:
    root = tmp_path / "snapshots"
    with layer_at(root, log, storage=[WithoutDeltas(), f"local://{root}"]) as layer:
        put(layer, "one")
        layer.sync()
        put(layer, "two")
        put(layer, "three", partition="us")
        (path,) = (root / "users" / "eu").iterdir()
        whole = path.read_bytes()
        damage(path)
        head = log.head("eu")
        for _ in range(2):
            with pytest.raises(StorageError, match=path.name) as raised:
                layer.sync()
            assert (raised.value.operation, raised.value.partition) == ("sync", "eu")
        assert log.head("eu") == head
        assert (layer.meta("eu").unsynced_total, layer.meta("us").unsynced_total) == (1, 0)

        path.write_bytes(whole)
        assert layer.sync().count == 1
        assert layer.get("eu") == expected("one", "two")
        assert layer.verify().findings == ()


@pytest.mark.parametrize("damage", [cut_short, missing])
def test_a_compaction_that_needs_a_damaged_segment_fails_aloud_and_loses_nothing(
    tmp_path: Path, log: EventLog, damage: Callable[[Path], None]
) -> None:
    root = tmp_path / "snapshots"
    with layer_at(root, log) as layer:
        put(layer, "first")
        layer.sync()
        (path,) = (root / "users" / "eu").iterdir()
        whole = path.read_bytes()
        damage(path)
        raised = 0
        for number in range(60):
            put(layer, f"item-{number:02d}")
            try:
                layer.sync()
            except StorageError as error:
                raised += path.name in str(error)
            assert len(log.head("eu").segments) <= 33
        assert raised > 40
        assert layer.meta().unsynced_total > 0  # the head can take no more
        with pytest.raises(StorageError, match=path.name):
            layer_at(root, log).get("eu")

        path.write_bytes(whole)
        everything = expected("first", *(f"item-{number:02d}" for number in range(60)))
        assert layer_at(root, log).get("eu") == everything
        layer.sync()
        assert layer.meta().unsynced_total == 0
        assert layer_at(root, log).get("eu") == everything
        assert layer.verify().findings == ()


# Where nothing can be written


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it_and_leaves_everything_pending(
    tmp_path: Path, log: EventLog
) -> None:
    (tmp_path / "file").write_text("in the way")
    with layer_at(tmp_path / "file" / "snapshots", log) as layer:
        put(layer, "one")
        for _ in range(2):
            with pytest.raises(StorageError, match=str(tmp_path / "file" / "snapshots")) as raised:
                layer.sync()
            assert not raised.value.retryable
        assert layer.meta().unsynced_total == 1
        assert layer.get("eu") == expected("one")
        assert layer.vacuum(dry_run=False).discarded == ()

        (tmp_path / "file").unlink()
        assert layer.sync().count == 1
        assert layer_at(tmp_path / "file" / "snapshots", log).get("eu") == expected("one")


def test_a_file_in_place_of_a_partitions_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "eu").write_text("in the way")
    adapter = LocalAdapter(tmp_path)
    with pytest.raises(StorageError, match=str(tmp_path / "eu")):
        adapter.layer_setter("eu", segment_of("eu"))
    with pytest.raises(SegmentMissingError, match=str(tmp_path / "eu")):
        adapter.layer_getter("eu", "x.segment")
    assert (tmp_path / "eu").read_text() == "in the way"


def test_a_url_to_a_file_is_refused_when_the_layer_is_built(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="is a file"):
        layer_at(tmp_path / "file", MemoryEventLog("users"))


def test_a_url_with_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="flush"):
        LocalAdapter.from_url(URL.parse(f"local://{tmp_path}?flush=no", what="storage"), "users")


def test_a_relative_root_survives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    with layer_at(tmp_path, MemoryEventLog("users"), storage="local:snapshots") as layer:
        put(layer, "one")
        monkeypatch.chdir(there)
        layer.sync()
        monkeypatch.chdir(tmp_path)
        put(layer, "two")
        layer.sync()
        assert layer.verify().findings == ()
    assert len(files(here / "snapshots" / "users" / "eu")) == 2
    assert files(there) == set()


# A full disk: this file run as a program, on a file system so small that it is full at once

AS_A_PROGRAM = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
TMPFS = 'mount -t tmpfs -o size=256k,mode=0777 tmpfs "$0" && exec "$@"'


def live_on_a_full_disk(folder: Path, fill: Callable[[], object], make_room: Callable[[], object], hint: str) -> None:
    """Sync before, on and after a full disk; raises what is not as it should be."""
    log = MemoryEventLog("users")
    noise = [secrets.token_hex(400) for _ in range(200)]
    with layer_at(folder, log) as layer:
        put(layer, "one")
        layer.sync()
        put(layer, *noise)
        fill()
        before = files(folder)
        for _ in range(2):
            with pytest.raises(StorageError, match=hint) as raised:
                layer.sync()
            assert raised.value.retryable or not hint
            assert files(folder) == before
            assert (layer.meta().synced_total, layer.meta().unsynced_total) == (1, len(noise))
            assert layer.get("eu") == layer_at(folder, log).get("eu") == expected("one", *noise)
            assert layer.verify().findings == ()
        make_room()
        assert layer.sync().count == len(noise)
        assert layer_at(folder, log).get("eu") == expected("one", *noise)
        assert layer.verify().findings == ()


def live_on_a_tiny_file_system(folder: Path) -> None:
    filler = folder / "filler"

    def fill() -> None:
        room = os.statvfs(folder)
        filler.write_bytes(bytes(room.f_bavail * room.f_bsize - 8192))

    live_on_a_full_disk(folder, fill, filler.unlink, "the disk is full: make room")


def live_within_a_limit(folder: Path) -> None:
    """The next best where nothing may be mounted: no file of this process may grow above a limit."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))

    live_on_a_full_disk(folder, limit(8192), limit(most), "")


def mounting(folder: Path) -> Sequence[str] | None:
    """A command that runs another with a tiny file system mounted, which is gone when it ends; None if none can."""
    for options in ("-m", "-rm"):
        command = ["unshare", options, "sh", "-c", TMPFS, str(folder)]
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=30).returncode == 0:
                return command
        except FileNotFoundError:
            return None
    return None


def test_a_full_disk_leaves_everything_pending_and_nothing_half_written_and_room_mends_it(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    mount = mounting(tmp_path)
    how = "limit" if mount is None else "mounted"
    record_property("the disk was full by", how)
    command = [*(mount or ()), sys.executable, __file__, how, str(tmp_path)]
    done = subprocess.run(command, env=AS_A_PROGRAM, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_file_that_may_not_grow_leaves_everything_pending_and_nothing_half_written(tmp_path: Path) -> None:
    command = [sys.executable, __file__, "limit", str(tmp_path)]
    done = subprocess.run(command, env=AS_A_PROGRAM, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# Vacuum


def abandon(folder: Path, origin: str, *, age: float, data: bytes = b"half a segm") -> Path:
    """What a process that died while it wrote a segment has left."""
    part = folder / f"{segment_of('eu', origin=origin).name}.segment.part"
    part.write_bytes(data)
    moment = time.time() - age
    os.utime(part, (moment, moment))
    return part


def test_an_abandoned_part_is_discarded_after_a_day_and_a_young_one_is_left(tmp_path: Path, log: EventLog) -> None:
    with layer_at(tmp_path / "snapshots", log) as layer:
        put(layer, "one")
        layer.sync()
        folder = tmp_path / "snapshots" / "users" / "eu"
        old = abandon(folder, log.origin, age=TWO_DAYS)
        young = abandon(folder, log.origin, age=3600)
        foreign = abandon(folder, "another-origin", age=TWO_DAYS)
        dry = layer.vacuum()
        assert (dry.dry_run, old.exists()) == (True, True)
        result = layer.vacuum(dry_run=False)
        assert result.discarded == dry.discarded == (("eu", old.name),)
        assert [ref for _, ref, _ in result.left] == [foreign.name]
        assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)
        assert layer.verify().findings == ()


def test_a_part_that_vanishes_while_a_folder_is_listed_hides_nothing_else(
    adapter: LocalAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = {adapter.layer_setter("eu", segment_of("eu")) for _ in range(3)}
    part = abandon(tmp_path / "snapshots" / "eu", ORIGIN, age=TWO_DAYS)
    scandir = os.scandir

    class Late:
        """What scandir gives, when the part is no longer there."""

        def __init__(self, folder: Path) -> None:
            with scandir(folder) as found:
                self._entries = list(found)
            part.unlink()

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self._entries)

        def __enter__(self) -> Late:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Late)
    assert set(adapter.layer_list("eu")) - {part.name} == refs


def orphan(root: Path, log: EventLog, table: str = "users") -> Path:
    """A segment that no head names."""
    ref = LocalAdapter(root).layer_setter("eu", segment_of("eu", 9, origin=log.origin, table=table))
    return root / "eu" / ref


def check_vacuums_apart(one: Layer, other: Layer, orphans: tuple[Path, Path]) -> None:
    put(one, "one")
    put(other, "other")
    one.sync()
    other.sync()
    one.vacuum(dry_run=False)
    assert [path.exists() for path in orphans] == [False, True]
    for layer, name in ((one, "one"), (other, "other")):
        assert layer.verify().findings == ()
        assert layer.get("eu") == expected(name)
    other.vacuum(dry_run=False)
    assert [path.exists() for path in orphans] == [False, False]
    assert one.verify().ok
    assert other.verify().ok


def test_two_logs_of_one_table_in_one_folder_leave_each_others_segments_alone(tmp_path: Path) -> None:
    with SQLiteEventLog(tmp_path / "1.db", "users") as first, SQLiteEventLog(tmp_path / "2.db", "users") as second:
        root = tmp_path / "snapshots"
        one, other = layer_at(root, first), layer_at(root, second)
        check_vacuums_apart(one, other, (orphan(root / "users", first), orphan(root / "users", second)))


def test_a_vacuum_tells_whose_the_segments_are_that_it_leaves(tmp_path: Path) -> None:
    logs = MemoryEventLog("users"), MemoryEventLog("users")
    one, other = (layer_at(tmp_path, log) for log in logs)
    put(one, "one")
    put(other, "other")
    one.sync()
    other.sync()
    ((partition, ref, reason),) = one.vacuum(dry_run=False).left
    assert (partition, ref) == ("eu", logs[1].head("eu").segments[0].ref)
    assert "another event log" in reason


def test_a_vacuum_of_a_partition_never_heard_of_does_nothing(tmp_path: Path, log: EventLog) -> None:
    for each in (log, MemoryEventLog("users")):
        layer = layer_at(tmp_path / "snapshots", each)
        for dry_run in (True, False):
            result = layer.vacuum("nobody", dry_run=dry_run)
            assert (result.discarded, result.left) == ((), ())
        assert layer.partitions() == []


if __name__ == "__main__":
    (live_on_a_tiny_file_system if sys.argv[1] == "mounted" else live_within_a_limit)(Path(sys.argv[2]))
