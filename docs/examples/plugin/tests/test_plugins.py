"""The plugins as a layer uses them: by name."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from dynalayer import ConfigurationError, Layer


def opened(**options: Any) -> Layer:
    return Layer(
        table="users", get_item_unique_identifier="id", get_item_partition="region", events="memory:", **options
    )


def put(identifier: str, region: str) -> dict[str, object]:
    return {"type": "PUT", "item": {"id": identifier, "region": region}}


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """The URL of a webhook, and what was posted to it."""
    posted: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", posted
        server.shutdown()
        thread.join()


def test_every_sync_is_a_line_in_the_file(tmp_path: Path) -> None:
    told = tmp_path / "syncs.jsonl"
    with opened(storage=f"local:{tmp_path}/snapshots", plugins=[f"notify:{told}"]) as layer:
        layer.set([put("a", "eu"), put("b", "us")])
        result = layer.sync()
        layer.sync()  # nothing to fold, nothing to tell
    (line,) = told.read_text().splitlines()
    assert json.loads(line) == {
        "table": "users",
        "folded": 2,
        "partitions": ["eu", "us"],
        "cursor": result.cursor,
    }


def test_every_sync_is_posted_to_a_webhook(tmp_path: Path, webhook: tuple[str, list[Any]]) -> None:
    url, posted = webhook
    with opened(storage=f"local:{tmp_path}/snapshots", plugins=[{"use": "notify", "to": url}]) as layer:
        layer.set([put("a", "eu")])
        layer.sync()
    assert [each["folded"] for each in posted] == [1]


def test_a_webhook_that_is_not_there_breaks_no_sync(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = {"use": "notify", "to": "http://127.0.0.1:9/", "timeout": 0.5}
    with opened(storage=f"local:{tmp_path}/snapshots", plugins=[hook]) as layer:
        layer.set([put("a", "eu")])
        assert layer.sync().count == 1
    assert "layer_synced failed" in caplog.text


def test_a_failed_sync_after_a_set_is_told_without_its_text(tmp_path: Path) -> None:
    told = tmp_path / "syncs.jsonl"
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "users").write_text("a file where a folder should be")
    options = {"plugins": [f"notify:{told}"], "sync_strategy": lambda meta: True}
    with opened(storage=f"local:{tmp_path}/snapshots", **options) as layer:
        layer.set([put("a", "eu")])
        assert layer.meta().error
    assert json.loads(told.read_text()) == {"table": "users", "failed": "sync", "error": "StorageError"}


def test_chosen_partitions_are_synced_early_and_others_are_not(tmp_path: Path) -> None:
    with opened(storage=f"local:{tmp_path}/snapshots", sync_strategy="chosen:eu;us?count=2") as layer:
        layer.set([put("a", "eu"), put("b", "asia"), put("c", "asia")])
        assert layer.meta().unsynced_total == 3
        layer.set([put("d", "eu")])
        assert layer.meta("eu").unsynced_total == 0
        assert layer.meta("asia").unsynced_total == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plugins": ["notify"]}, "needs a setting 'to'"),
        ({"plugins": ["notify:x?timeout=60"]}, "at most 30 seconds"),
        ({"plugins": ["notify:x?timeot=1"]}, "did you mean 'timeout'"),
        ({"sync_strategy": "chosen:eu?count=0"}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        opened(storage=f"local:{tmp_path}/snapshots", **options)
