"""The cache: quick where it can be, the store's word where it matters, and never a failure of its own."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    Capabilities,
    ConfigurationError,
    Layer,
    Segment,
    SegmentMissingError,
    StorageError,
    hookimpl,
)
from dynalayer_cache import Cache, CachedAdapter
from dynalayer_encryption import Encryption
from dynalayer_local import LocalAdapter

ORIGIN = "0123456789abcdef"
LEAST = 1024 * 1024


class Counting(LocalAdapter):
    """Local files, and how often they were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads = 0

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        self.reads += 1
        return super().layer_getter(partition, ref)


def segment(version: int = 1, size: int = 10, partition: str = "eu", name: str = "") -> Segment:
    items = {"a": {"id": "a", "n": version, "noise": os.urandom(size)}}
    return Segment("users", partition, ORIGIN, "base", 0, version, items, name=name)


def cached(tmp_path: Path, max_bytes: int = LEAST) -> tuple[CachedAdapter, Counting]:
    inner = Counting(tmp_path / "store")
    return Cache(tmp_path / "cache", max_bytes=max_bytes).around(inner), inner


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.kept"))


def size(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())


# What is answered from where


def test_what_was_stored_or_read_once_is_read_from_the_cache_by_every_process(tmp_path: Path) -> None:
    adapter, inner = cached(tmp_path)
    stored = segment()
    ref = adapter.layer_setter("eu", stored)
    other, others = cached(tmp_path)
    assert adapter.layer_getter("eu", ref) == other.layer_getter("eu", ref) == stored
    assert (inner.reads, others.reads) == (0, 0)
    unkept = inner.layer_setter("eu", segment(2))
    for _ in range(3):
        assert other.layer_getter("eu", unkept).to_version == 2
    assert others.reads == 1


def test_a_discarded_segment_is_gone_from_the_cache_too(tmp_path: Path) -> None:
    adapter, _ = cached(tmp_path)
    ref = adapter.layer_setter("eu", segment())
    assert len(kept(tmp_path)) == 1
    assert adapter.layer_discard("eu", ref)
    assert kept(tmp_path) == []
    with pytest.raises(SegmentMissingError):
        adapter.layer_getter("eu", ref)


def test_a_listing_is_the_stores(tmp_path: Path) -> None:
    adapter, inner = cached(tmp_path)
    refs = [adapter.layer_setter("eu", segment(n)) for n in (1, 2)]
    inner.layer_discard("eu", refs[0])
    assert adapter.layer_list("eu") == [refs[1]]


def test_a_loss_in_the_store_is_found_by_verify_while_reads_go_on(tmp_path: Path) -> None:
    store, cache = tmp_path / "store", tmp_path / "cache"
    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=[f"cache:{cache}?max_bytes={LEAST}", f"local:{store}"],
        cache_bytes=0,
    ) as layer:
        layer.set([{"type": "PUT", "item": {"id": "a"}}])
        layer.sync()
        assert layer.verify().ok
        (path,) = store.rglob("*.segment")
        whole = path.read_bytes()
        path.unlink()
        assert layer.get() == [{"id": "a"}]
        assert "there is no file" in layer.verify().findings[0].problem
        path.write_bytes(whole[:-9])
        assert layer.get() == [{"id": "a"}]
        assert "hash" in layer.verify().findings[0].problem
        path.write_bytes(whole)
        assert layer.verify().ok


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-5], lambda data: data[:40] + b"x" + data[41:]]
)
def test_a_torn_or_rotten_file_is_thrown_away_and_read_from_the_store(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    adapter, inner = cached(tmp_path)
    stored = segment()
    ref = adapter.layer_setter("eu", stored)
    (path,) = kept(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert adapter.layer_getter("eu", ref) == stored
    assert adapter.layer_getter("eu", ref) == stored
    assert inner.reads == 1


# What must not be confused


class Numbered:
    """A store whose refs are numbers, as any other's may be."""

    name = "numbered"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.kept: list[Segment] = []

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.kept.append(segment)
        return str(len(self.kept))

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        return self.kept[int(ref) - 1]

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return []


def test_stores_whose_refs_say_nothing_are_read_each_time_and_never_confused(tmp_path: Path) -> None:
    stores = [Cache(tmp_path / "cache").around(Numbered()) for _ in range(2)]
    for number, store in enumerate(stores):
        assert store.layer_setter("eu", segment(number + 1)) == "1"
    assert [store.layer_getter("eu", "1").to_version for store in stores] == [1, 2]
    assert kept(tmp_path) == []


@pytest.mark.parametrize("name", ["x", "00000000000000000001-base-by-hand", "segment"])
def test_a_name_that_is_not_fresh_for_sure_is_not_cached(tmp_path: Path, name: str) -> None:
    adapter, _ = cached(tmp_path)
    adapter.layer_setter("eu", segment(name=name))
    assert kept(tmp_path) == []


def test_a_ref_of_one_partition_is_none_of_another(tmp_path: Path) -> None:
    adapter, _ = cached(tmp_path)
    ref = adapter.layer_setter("eu", segment())
    with pytest.raises(SegmentMissingError):
        adapter.layer_getter("us", ref)


def test_another_segment_in_a_files_place_is_not_answered(tmp_path: Path) -> None:
    adapter, inner = cached(tmp_path)
    one, other = (adapter.layer_setter("eu", segment(n)) for n in (1, 2))
    files = kept(tmp_path)
    files[0].write_bytes(files[1].read_bytes())
    assert [adapter.layer_getter("eu", ref).to_version for ref in (one, other)] == [1, 2]
    assert inner.reads == 1


def test_layers_that_cache_before_and_behind_encryption_share_a_folder(tmp_path: Path) -> None:
    encryption = Encryption(lambda key_id: ("k1", bytes(32)))
    store = LocalAdapter(tmp_path / "store")
    plain = Cache(tmp_path / "cache").around(encryption.around(store))
    sealed = encryption.around(Cache(tmp_path / "cache").around(store))
    stored = segment()
    ref = plain.layer_setter("eu", stored)
    for _ in range(2):
        assert sealed.layer_getter("eu", ref) == plain.layer_getter("eu", ref) == stored
    assert len(kept(tmp_path)) == 2


# Bounds


def test_what_was_used_least_recently_goes_first_and_the_bound_is_kept(tmp_path: Path) -> None:
    adapter, inner = cached(tmp_path)
    stored = [segment(n, 200_000) for n in range(1, 6)]
    refs = [adapter.layer_setter("eu", each) for each in stored[:4]]
    for path, age in zip(kept_in_order(adapter, refs), (400, 300, 200, 100), strict=True):
        os.utime(path, (time.time() - age,) * 2)
    adapter.layer_getter("eu", refs[0])  # the oldest, used just now
    refs.append(adapter.layer_setter("eu", stored[4]))
    refs.append(adapter.layer_setter("eu", segment(6, 200_000)))
    assert size(tmp_path) <= LEAST
    inner.reads = 0
    adapter.layer_getter("eu", refs[0])
    assert inner.reads == 0
    adapter.layer_getter("eu", refs[1])
    assert inner.reads == 1


def kept_in_order(adapter: CachedAdapter, refs: Sequence[str]) -> list[Path]:
    return [adapter.shelf.folder / f"{adapter._name('eu', ref)}.kept" for ref in refs]


def test_a_segment_larger_than_the_cache_is_not_kept_and_nothing_goes_for_it(tmp_path: Path) -> None:
    adapter, _ = cached(tmp_path)
    adapter.layer_setter("eu", segment())
    ref = adapter.layer_setter("eu", segment(2, 2 * LEAST))
    assert adapter.layer_getter("eu", ref).to_version == 2
    assert len(kept(tmp_path)) == 1


def test_room_is_made_once_in_a_while_not_at_each_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = 0
    real = os.scandir

    def scandir(path: Any) -> Any:
        nonlocal scans
        scans += "cache" in str(path)
        return real(path)

    monkeypatch.setattr("dynalayer_cache.shelf.os.scandir", scandir)
    adapter, _ = cached(tmp_path)
    for number in range(1, 101):
        adapter.layer_setter("eu", segment(number, 50_000))
    assert size(tmp_path) <= LEAST
    assert scans <= 25, "a fifth of what a scan at each put would be"


def test_many_small_files_count_as_more_than_they_are_so_that_a_scan_is_bounded(tmp_path: Path) -> None:
    adapter, _ = cached(tmp_path, 1024 * LEAST)
    for number in range(1, 4):
        adapter.layer_setter("eu", segment(number))
    share = 1024 * LEAST // 32_768
    assert int((adapter.shelf.folder / "count").read_text()) == 3 * share
    other, _ = cached(tmp_path, 1024 * LEAST)
    other.layer_setter("eu", segment(4))
    assert int((adapter.shelf.folder / "count").read_text()) == 4 * share, "also when they are counted anew"


# What goes wrong


def broken(tmp_path: Path, how: str) -> Path:
    folder = tmp_path / "cache"
    if how == "a file above":
        (tmp_path / "file").touch()
        return tmp_path / "file" / "cache"
    if how == "a file in its place":
        folder.mkdir()
        (folder / "segments-1").touch()
    if how == "open to others":
        (folder / "segments-1").mkdir(parents=True, mode=0o777)
        (folder / "segments-1").chmod(0o777)
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.mkdir()
        (folder / "segments-1").symlink_to(tmp_path / "elsewhere")
    if how == "read-only":
        return Path("/proc/self/cache")
    return folder


@pytest.mark.parametrize("how", ["a file above", "a file in its place", "open to others", "a link", "read-only"])
def test_a_folder_that_cannot_be_used_breaks_nothing_and_is_told_once(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Counting(tmp_path / "store")
    adapter = Cache(broken(tmp_path, how)).around(inner)
    for number in range(1, 4):
        ref = adapter.layer_setter("eu", segment(number))
        assert adapter.layer_getter("eu", ref).to_version == number
        adapter.layer_discard("eu", ref)
    assert inner.reads == 3
    assert len([record for record in caplog.records if record.name == "dynalayer.cache"]) == 1
    assert not list(tmp_path.glob("elsewhere/*"))


FULL = """
import logging, resource, sys
from pathlib import Path
from dynalayer import Segment
from dynalayer_cache import Cache
from dynalayer_local import LocalAdapter

logging.basicConfig(format="%(message)s")
folder = Path(sys.argv[1])
inner = LocalAdapter(folder / "store")
items = {"a": {"noise": bytes(range(256)) * 200}}
stored = [Segment("users", "eu", "0123456789abcdef", "base", 0, n, items) for n in (1, 2, 3)]
refs = [inner.layer_setter("eu", each) for each in stored]
adapter = Cache(folder / "cache").around(inner)
adapter.layer_getter("eu", refs[0])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for _ in range(2):
    assert [adapter.layer_getter("eu", ref) for ref in refs] == stored
print(len(list((folder / "cache").rglob("*.kept"))), len(list((folder / "cache").rglob("*.part"))))
"""


def test_a_disk_that_takes_no_more_breaks_nothing_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["1", "0"]), done.stderr
    assert done.stderr.count("the cache could not keep") == 1


def test_who_holds_the_lock_and_does_not_go_on_stops_nobody(tmp_path: Path) -> None:
    adapter, inner = cached(tmp_path)
    first = adapter.layer_setter("eu", segment())
    holder = textwrap.dedent(f"""
        import fcntl, time
        file = open({str(adapter.shelf.folder / "count")!r}, "r+")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held", flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            second = adapter.layer_setter("eu", segment(2))
            inner.reads = 0
            assert adapter.layer_getter("eu", first).to_version == 1
            assert inner.reads == 0
            assert adapter.layer_getter("eu", second).to_version == 2
            assert inner.reads == 1
        finally:
            process.kill()
    assert adapter.layer_getter("eu", second).to_version == 2
    assert len(kept(tmp_path)) == 2, "a killed process holds no lock"


def test_no_file_gets_its_name_while_somebody_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing may miss what is renamed meanwhile, and too little would be counted from then on."""
    adapter, _ = cached(tmp_path)
    adapter.layer_setter("eu", segment())
    write = Path.write_bytes
    with (adapter.shelf.folder / "count").open() as counting:

        def writing(path: Path, data: bytes) -> int:
            if path.suffix == ".part" and "cache" in str(path):
                fcntl.flock(counting, fcntl.LOCK_EX)
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", writing)
        adapter.layer_setter("eu", segment(2))
        assert len(kept(tmp_path)) == 1
    assert not list(adapter.shelf.folder.glob("*.part"))
    monkeypatch.undo()
    adapter.layer_setter("eu", segment(3))
    assert len(kept(tmp_path)) == 2


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        adapter, _ = cached(tmp_path)
        adapter.layer_setter("eu", segment())
    finally:
        os.umask(before)
    folder = adapter.shelf.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


# Many processes

READER = """
import random, sys, time
from pathlib import Path
from dynalayer_cache import Cache
from dynalayer_local import LocalAdapter

folder, refs = Path(sys.argv[1]), sys.argv[3:]
adapter = Cache(folder / "cache", max_bytes=1024 * 1024).around(LocalAdapter(folder / "store"))
random.seed(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(150 if sys.argv[2] != "killed" else 10**9):
    ref = random.choice(refs)
    segment = adapter.layer_getter("eu", ref)
    assert ref.startswith(segment.name), ref
    assert len(segment.items["a"]["noise"]) >= 60_000
print("read")
"""


def test_processes_that_read_and_evict_at_once_one_of_them_killed_read_right_and_keep_the_bound(tmp_path: Path) -> None:
    store = LocalAdapter(tmp_path / "store")
    refs = [store.layer_setter("eu", segment(n, 60_000 + 1000 * n)) for n in range(1, 41)]
    command = [sys.executable, "-c", READER, str(tmp_path)]
    processes = [
        subprocess.Popen(
            [*command, seed, *refs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in ("1", "2", "3", "killed")
    ]
    most = 0
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        while any(process.poll() is None for process in processes[:3]):
            most = max(most, measured(tmp_path))
            if most > LEAST // 2:
                processes[3].send_signal(signal.SIGKILL)
            time.sleep(0.01)
        for process in processes[:3]:
            out, error = process.communicate(timeout=60)
            assert (process.returncode, out, error) == (0, "read\n", "")
        processes[3].kill()
        processes[3].communicate(timeout=60)
        assert processes[3].returncode == -signal.SIGKILL
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert LEAST // 2 < most <= LEAST
    assert size(tmp_path) <= LEAST + 20  # and the count
    adapter, _ = cached(tmp_path)
    for ref in refs:
        assert ref.startswith(adapter.layer_getter("eu", ref).name)


def measured(tmp_path: Path) -> int:
    """What all files take at a moment: while the count is locked none is begun and none removed."""
    folder = tmp_path / "cache" / "segments-1"
    if not (folder / "count").exists():
        return 0
    with (folder / "count").open() as count:
        fcntl.flock(count, fcntl.LOCK_EX)
        found: dict[int, int] = {}
        for path in folder.glob("*.*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # it was renamed
                continue
            found[status.st_ino] = status.st_size
    return sum(found.values())


def test_threads_that_keep_and_evict_at_once_read_right(tmp_path: Path) -> None:
    adapter, _ = cached(tmp_path)
    stored = [segment(n, 100_000) for n in range(1, 21)]
    refs = [adapter.inner.layer_setter("eu", each) for each in stored]
    failures: list[BaseException] = []

    def read(step: int) -> None:
        try:
            for number in range(60):
                at = number * step % len(refs)
                assert adapter.layer_getter("eu", refs[at]) == stored[at]
        except BaseException as error:  # noqa: BLE001 -- told below, by the test's thread
            failures.append(error)

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert size(tmp_path) <= LEAST + 20


# Settings and orders


@pytest.mark.parametrize("max_bytes", [0, -1, LEAST - 1, 2**50 + 1, True, 1e9, "much"])
def test_a_bound_out_of_bounds_is_refused(tmp_path: Path, max_bytes: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_bytes"):
        Cache(tmp_path, max_bytes=max_bytes)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("", "a\0b", tmp_path / "file"):
        with pytest.raises(ConfigurationError, match="folder"):
            Cache(folder)


def test_what_may_change_is_refused(tmp_path: Path) -> None:
    class Mutable(Numbered):
        capabilities = Capabilities(immutable=False, deltas=False, listing=False)

    with pytest.raises(ConfigurationError, match="may change"):
        Layer(
            table="users",
            get_item_unique_identifier="id",
            events="memory:",
            storage=[f"cache:{tmp_path / 'cache'}", Mutable()],
        )


def test_two_caches_in_one_folder_are_refused_and_in_two_are_not(tmp_path: Path) -> None:
    inner = LocalAdapter(tmp_path / "store")
    with pytest.raises(ConfigurationError, match="two caches"):
        Cache(tmp_path / "a").around(Cache(tmp_path / "a").around(inner))
    adapter = Cache(tmp_path / "a").around(Cache(tmp_path / "b").around(inner))
    ref = adapter.layer_setter("eu", segment())
    assert adapter.layer_getter("eu", ref).to_version == 1


def test_a_store_that_fails_is_told_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Numbered):
        @hookimpl
        def layer_getter(self, partition: str, ref: str) -> Segment:
            raise StorageError("away")

    with caplog.at_level(logging.WARNING), pytest.raises(StorageError, match="away"):
        Cache(tmp_path / "cache").around(Failing()).layer_getter("eu", "1")


def test_columns_pass_by_the_cache(tmp_path: Path) -> None:
    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=[f"cache:{tmp_path / 'cache'}", f"parquet+file:{tmp_path / 'store'}"],
    ) as layer:
        for number in range(12):
            layer.set([{"type": "PUT", "item": {"id": str(number), "n": number}}])
            layer.sync()
        assert sorted(layer.to_arrow(columns=["n"]).column("n").to_pylist()) == list(range(12))
        assert layer.verify().ok
