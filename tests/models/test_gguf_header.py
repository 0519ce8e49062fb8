"""What a GGUF file says about itself, read without loading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tta_langgraph.models.errors import WeightsError
from tta_langgraph.models.gguf_header import read_gguf_header

from .conftest import gguf_bytes


def test_a_header_tells_architecture_name_quantisation_window_and_template(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(name="My Model", context=2048))
    header = read_gguf_header(path)
    assert (header.architecture, header.name, header.quantisation) == ("qwen2", "My Model", "Q4_K_M")
    assert header.context_length == 2048
    assert header.chat_template == "{{ messages }}"


def test_the_header_agrees_with_the_reference_reader(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the reference reader is not installed")
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(name="Größe", context=4096))
    mine, reference = read_gguf_header(path), gguf.GGUFReader(path)
    assert mine.fields
    for key, value in mine.fields.items():
        assert reference.fields[key].contents() == value, key
    assert mine.data_bytes == max(int(tensor.data_offset) for tensor in reference.tensors)


@pytest.mark.parametrize("kept", [0, 3, 20, 150, 300])
def test_a_file_cut_anywhere_in_its_header_is_refused_with_one_clear_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf_bytes(payload=64)[:kept])
    with pytest.raises(WeightsError, match=r"cut\.gguf"):
        read_gguf_header(path)


def test_a_file_that_lost_its_tensors_is_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf_bytes(payload=4096)[:-4096])
    with pytest.raises(WeightsError, match="truncated"):
        read_gguf_header(path)


def test_another_file_format_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_text("<html>log in</html>")
    with pytest.raises(WeightsError, match="not a GGUF file"):
        read_gguf_header(path)
