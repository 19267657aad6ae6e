"""`doctor` and `conformance`: what they say of stores that are well, out of reach or not what they claim to be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import servers
from broken_shelves import ListsOnePage, ServesWhatIsGone
from dynalayer import Adapter, Layer, Segment, SQLiteEventLog, create_table, hookimpl
from dynalayer.columns import Columns, SegmentColumns
from program import InProcess, Program
from s3_servers import S3, Answer, Asked, S3Proxy
from shelf import Board, Pillar, Shelf, Unlisted

SECRET = servers.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
SOME = (
    "test_values_of_every_kind_come_back_exactly",
    "test_a_discarded_segment_is_gone",
    "test_foreign_contents_beside_segments_harm_nothing",
    "test_an_emptied_segment_is_an_error",
    "test_each_sync_publishes_where_that_is_declared_and_none_does_where_not",
    "test_layers_of_two_tables_leave_each_other_alone",
)


@pytest.fixture
def program(tmp_path: Path) -> InProcess:
    return InProcess(tmp_path)


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some promises of each kind: the tests of the kit itself try them all."""
    monkeypatch.setattr("dynalayer.testing.adapters.live.promises", lambda: SOME)


def told(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """What a command said; it is no traceback, and no secret."""
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert SECRET not in said
    return said


def states(said: str) -> dict[str, str]:
    """What `doctor` found, by what it looked at."""
    rows = [line.split("  ") for line in said.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {row[1]: row[0] for row in cells if row and row[0] in ("well", "wrong", "not tried")}


def living(folder: Path) -> Path:
    """A folder in which a layer keeps its snapshots."""
    with SQLiteEventLog(folder / "events.db", "users") as log:
        layer = Layer(table="users", get_item_unique_identifier="id", events=log, storage=f"local:{folder}/snapshots")
        layer.set([{"type": "PUT", "item": {"id": "one"}}])
        layer.sync()
    return folder / "snapshots"


def files(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# doctor


@pytest.mark.parametrize("url", ["local:snapshots", "local:new", "parquet+file:snapshots", "parquet+file:a/new"])
def test_a_store_of_files_is_found_well_and_left_as_it_was(program: InProcess, tmp_path: Path, url: str) -> None:
    living(tmp_path)
    before = files(tmp_path / "snapshots")
    found = states(told(program.run("doctor", url), 0))
    assert set(found.values()) <= {"well", "not tried"}
    assert found["put"] == found["discard: it is gone"] == found["nothing is left behind"] == "well"
    assert files(tmp_path / "snapshots") == before
    assert not (tmp_path / "new").exists()


def test_a_store_on_s3_is_found_well_and_left_empty(program: InProcess, s3: S3) -> None:
    said = told(program.run("doctor", s3.url()), 0)
    assert set(states(said).values()) == {"well", "not tried"}
    assert said.count(" ms") == 4
    assert s3.listed() == []


def test_what_s3_forbids_is_told_with_the_permission_and_what_needs_it_is_not_tried(
    program: InProcess, moto_s3: S3, proxy: S3Proxy
) -> None:
    def rule(asked: Asked) -> Answer | None:
        return Answer.error(403, "AccessDenied", "Access Denied") if "list-type" in asked.query else None

    proxy.rule = rule
    said = told(program.run("doctor", moto_s3.behind(proxy).url()), 1)
    found = states(said)
    assert (found["put"], found["listing: at once, and nothing else"]) == ("well", "wrong")
    assert found["discard: it is gone"] == "not tried"
    assert "s3:ListBucket" in said
    assert moto_s3.listed() == []


def test_a_bucket_that_is_not_there_is_told_with_how_to_make_it(program: InProcess, moto_s3: S3) -> None:
    said = told(program.run("doctor", moto_s3.url().replace(moto_s3.bucket, "no-such-bucket")), 1)
    assert states(said)["put"] == "wrong"
    assert "aws s3 mb s3://no-such-bucket" in said


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nosuch:x", "there is no adapter 'nosuch'"),
        ("snapshots", "is no URL"),
        ("local:", "names no path"),
        ("s3-json://user:s3cr3t@bucket/x", "credentials"),
        ("memory:", "is empty when it is opened"),
        ("sqlite:events.db", "three or four slashes"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "conformance"])
def test_a_url_that_is_wrong_is_an_error_in_a_line(program: InProcess, command: str, url: str, expected: str) -> None:
    said = told(program.run(command, url), 1)
    if command == "doctor" or not url.startswith(("memory:", "sqlite:")):
        assert expected in said
    assert "s3cr3t" not in said


class OnePlace(Shelf):
    def ref(self, partition: str, segment: Segment) -> str:
        return "the one"


class Rounds(Shelf):
    def encode(self, segment: Segment) -> bytes:
        return super().encode(Segment(self.table, "probe", segment.origin, "base", 0, 1, {}))


class KeepsAll(Shelf):
    """In the object."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(Board(), table)


class ForgetsDeletions(Shelf):
    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        found = super().decode(data, partition, ref)
        return Segment(
            found.table,
            found.partition,
            found.origin,
            found.kind,
            found.from_version,
            found.to_version,
            found.items,
            name=found.name,
        )


class ListsNothing(Shelf):
    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return []


class OpensAnother(Pillar):
    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        return SegmentColumns(self.layer_getter(partition, self.refs(partition)[0]))


class KeepsWhatIsDiscarded(Shelf):
    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        return True


class Breaks(Shelf):
    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        raise OSError("no route")


def opening(monkeypatch: pytest.MonkeyPatch, kind: type[Shelf], module: str) -> Board:
    """Every URL names a shelf on one board."""
    board = Board()

    def opened(url: str, table: str) -> Adapter:
        return kind(board, table)

    monkeypatch.setattr(f"{module}.open_adapter", opened)
    return board


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Shelf, []),
        (Pillar, []),
        (Unlisted, []),
        (Breaks, ["put"]),
        (Rounds, ["get: the same comes back"]),
        (OnePlace, ["an older segment stays as it is"]),
        (KeepsAll, ["another adapter object sees it"]),
        (ForgetsDeletions, ["deltas"]),
        (OpensAnother, ["columns"]),
        (ListsNothing, ["listing: at once, and nothing else"]),
        (ServesWhatIsGone, ["discard: it is gone"]),
        (KeepsWhatIsDiscarded, ["discard: it is gone", "nothing is left behind"]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_store_that_does_not_do_what_it_claims_is_told_so(
    program: InProcess, monkeypatch: pytest.MonkeyPatch, kind: type[Shelf], wrong: list[str]
) -> None:
    opening(monkeypatch, kind, "dynalayer.cli.probing")
    found = states(told(program.run("doctor", "shelf:x"), 1 if wrong else 0))
    assert [subject for subject, state in found.items() if state == "wrong"] == wrong


def test_an_event_log_in_sqlite_is_looked_at_and_left_alone(program: InProcess, tmp_path: Path) -> None:
    living(tmp_path)
    said = told(program.run("doctor", "sqlite:///events.db", "--table", "users"), 0)
    assert set(states(said).values()) == {"well"}
    assert "1 partitions, 1 events, 0 of them pending" in said
    assert "has no layer of table 'other'" in told(program.run("doctor", "sqlite:///events.db", "--table", "other"), 1)


def test_an_event_log_that_is_not_there_or_is_something_else_is_told_so(program: InProcess, tmp_path: Path) -> None:
    assert states(told(program.run("doctor", "sqlite:///no.db"), 1))["open"] == "wrong"
    assert not (tmp_path / "no.db").exists()
    (tmp_path / "text.db").write_text("no database" * 100)
    said = told(program.run("doctor", "sqlite:///text.db"), 1)
    assert states(said) == {"open": "wrong", "read a head": "not tried", "count": "not tried"}


def test_an_event_log_in_dynamodb_is_looked_at(program: InProcess, moto_server: str, aws_environment: None) -> None:
    url = f"dynamodb://doctored?region={servers.REGION}&endpoint_url={moto_server}"
    assert states(told(program.run("doctor", url), 1))["open"] == "wrong"
    create_table(url)
    with Layer(table="users", get_item_unique_identifier="id", events=url, storage="local:snapshots") as layer:
        layer.set([{"type": "PUT", "item": {"id": "one"}}])
    said = told(program.run("doctor", url, "--table", "users"), 0)
    assert "1 partitions, 1 events, 1 of them pending" in said


# conformance


def test_the_installed_program_tests_every_promise_of_local_files_and_leaves_what_is_there(tmp_path: Path) -> None:
    living(tmp_path)
    before = files(tmp_path / "snapshots")
    said = told(Program(tmp_path).run("conformance", "local:snapshots"), 0)
    assert "68 promises: 60 passed, 0 failed, 8 not tested" in said
    assert "passed      an emptied segment is an error" in said
    assert "capabilities say columns=False" in said
    assert files(tmp_path / "snapshots") == before


def test_without_pytest_it_is_told_what_to_install_and_doctor_works(tmp_path: Path) -> None:
    program = Program(tmp_path)
    environment = program.without("pytest")
    environment["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    said = told(program.run("conformance", "local:snapshots", environment=environment), 1)
    assert "pip install 'dynalayer[testing]'" in said
    assert set(states(told(program.run("doctor", "local:snapshots", environment=environment), 0))) >= {"put"}


def test_a_store_on_s3_is_tested_with_raw_access_and_left_empty(
    program: InProcess, moto_s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (SOME[0], SOME[3])  # each opens connections of its own
    monkeypatch.setattr("dynalayer.testing.adapters.live.promises", lambda: few)
    moto_s3.write("snapshots/users/eu/kept", b"of somebody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3.endpoint_url)
    raw = f"s3://{moto_s3.bucket}/snapshots"
    said = told(program.run("conformance", moto_s3.url(publish="true"), "--raw", raw), 0)
    assert "2 promises: 2 passed, 0 failed, 0 not tested" in said
    assert moto_s3.listed() == ["snapshots/users/eu/kept"]
    said = told(program.run("conformance", moto_s3.url()), 0)
    assert "no raw access" in said
    assert "1 passed, 0 failed, 1 not tested" in said
    assert moto_s3.listed() == ["snapshots/users/eu/kept"]


def test_raw_access_that_leads_elsewhere_is_refused(program: InProcess, tmp_path: Path, some: None) -> None:
    said = told(program.run("conformance", "parquet+memory://x", "--raw", f"file://{tmp_path}/elsewhere"), 1)
    assert "raw access shows nothing of what the adapter stored" in said


def test_a_store_out_of_reach_is_told_once(program: InProcess, moto_s3: S3) -> None:
    said = told(program.run("conformance", moto_s3.url().replace(moto_s3.bucket, "no-such-bucket")), 1)
    assert said.startswith("Error: ")
    assert said.count("aws s3 mb") == 1


def test_a_broken_promise_is_told_with_its_reason(
    program: InProcess, monkeypatch: pytest.MonkeyPatch, some: None
) -> None:
    board = opening(monkeypatch, ServesWhatIsGone, "dynalayer.testing.adapters.live")
    said = told(program.run("conformance", "shelf:x"), 1)
    assert "failed      a discarded segment is gone\n            a getter of what was discarded says" in said
    assert "1 failed" in said
    assert board.kept == {}


def test_what_cannot_be_taken_away_is_told(program: InProcess, monkeypatch: pytest.MonkeyPatch, some: None) -> None:
    board = opening(monkeypatch, Unlisted, "dynalayer.testing.adapters.live")
    said = told(program.run("conformance", "shelf:x"), 0)
    assert "left behind: table 'conformance-" in said
    assert "the adapter cannot discard" in said
    assert board.kept


def test_an_interrupted_run_takes_away_what_it_stored(
    program: InProcess, monkeypatch: pytest.MonkeyPatch, some: None
) -> None:
    class Interrupted(ListsOnePage):
        @hookimpl
        def layer_getter(self, partition: str, ref: str) -> Segment:
            if len(self.board.notes.setdefault("read", [])) > 3:
                raise KeyboardInterrupt
            self.board.notes["read"].append(ref)
            return super().layer_getter(partition, ref)

    board = opening(monkeypatch, Interrupted, "dynalayer.testing.adapters.live")
    assert "Aborted!" in told(program.run("conformance", "shelf:x"), 1)
    assert board.kept == {}
