"""GGUF to safetensors: the converted model computes what the file says, on every architecture we claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models.convert import convert_gguf
from tta_langgraph.models.vllm_weights import resolve_weights

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed (extra: local)")
pytest.importorskip("safetensors", reason="the package safetensors is not installed")
pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")

Array = npt.NDArray[np.float32]
WIDTH, HEADS, KV_HEADS, LAYERS, FFN, HEAD = 64, 4, 2, 2, 96, 16


def byte_tokens() -> list[str]:
    """The 256 byte symbols of byte-level BPE, in GPT-2's order."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_gguf(path: Path, arch: str, *, quantised: bool = False, seed: int = 0, **drop: bool) -> dict[str, Array]:
    """Writes a tiny random model; returns its tensors as the file holds them, dequantised."""
    from gguf.quants import dequantize, quantize

    random = np.random.default_rng(seed)
    tokens = [*byte_tokens(), "he", "ll", "<|im_end|>", "<tool_call>"]
    types = [1] * (len(tokens) - 2) + [3, 4]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if arch == "qwen2" else "smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["h e", "l l"])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    if not drop.get("no_template"):
        writer.add_chat_template("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}")
    shapes = {"token_embd.weight": (len(tokens), WIDTH), "output_norm.weight": (WIDTH,)}
    if arch == "qwen2":
        shapes["output.weight"] = (len(tokens), WIDTH)
    layers = LAYERS - 1 if drop.get("no_last_layer") else LAYERS
    for i in range(layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (WIDTH,),
            f"blk.{i}.ffn_norm.weight": (WIDTH,),
            f"blk.{i}.attn_q.weight": (HEADS * HEAD, WIDTH),
            f"blk.{i}.attn_k.weight": (KV_HEADS * HEAD, WIDTH),
            f"blk.{i}.attn_v.weight": (KV_HEADS * HEAD, WIDTH),
            f"blk.{i}.attn_output.weight": (WIDTH, HEADS * HEAD),
            f"blk.{i}.ffn_gate.weight": (FFN, WIDTH),
            f"blk.{i}.ffn_up.weight": (FFN, WIDTH),
            f"blk.{i}.ffn_down.weight": (WIDTH, FFN),
        }
        if arch == "qwen2":
            rows = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}
            shapes |= {f"blk.{i}.attn_{part}.bias": (size,) for part, size in rows.items()}
    held: dict[str, Array] = {}
    for name, shape in shapes.items():
        values = random.normal(0.0, 0.3, shape).astype(np.float32)
        if quantised and len(shape) == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            packed = quantize(values, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
            values = dequantize(packed, kind).astype(np.float32)
        else:
            writer.add_tensor(name, values)
        held[name] = values
    if drop.get("bad_value"):
        held["output_norm.weight"][0] = np.nan
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def logits(held: dict[str, Array], arch: str, ids: list[int]) -> Array:
    """The forward pass as llama.cpp defines it on the file's own tensors.

    Its `llama` architecture rotates neighbouring pairs, `qwen2` rotates halves; this is what tells a converter that
    forgot to put the rows back.
    """

    def norm(x: Array, weight: Array) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight

    def rotated(x: Array) -> Array:  # [tokens, heads, HEAD]
        angle = np.arange(len(ids))[:, None] / 10000.0 ** (np.arange(0, HEAD, 2) / HEAD)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        if arch == "llama":
            a, b = x[..., 0::2], x[..., 1::2]
            out[..., 0::2], out[..., 1::2] = a * cos - b * sin, a * sin + b * cos
        else:
            a, b = x[..., : HEAD // 2], x[..., HEAD // 2 :]
            out[..., : HEAD // 2], out[..., HEAD // 2 :] = a * cos - b * sin, a * sin + b * cos
        return out

    x = held["token_embd.weight"][ids]
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    for i in range(LAYERS):
        h = norm(x, held[f"blk.{i}.attn_norm.weight"])

        def project(part: str, h: Array = h, i: int = i) -> Array:
            y = h @ held[f"blk.{i}.attn_{part}.weight"].T + held.get(f"blk.{i}.attn_{part}.bias", 0.0)
            return y.reshape(len(ids), -1, HEAD)

        q, k, v = rotated(project("q")), rotated(project("k")), project("v")
        k, v = np.repeat(k, HEADS // KV_HEADS, axis=1), np.repeat(v, HEADS // KV_HEADS, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(HEAD) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", weights, v).reshape(len(ids), -1)
        x = x + attended @ held[f"blk.{i}.attn_output.weight"].T
        h = norm(x, held[f"blk.{i}.ffn_norm.weight"])
        gate = h @ held[f"blk.{i}.ffn_gate.weight"].T
        up = h @ held[f"blk.{i}.ffn_up.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ held[f"blk.{i}.ffn_down.weight"].T
    head = held.get("output.weight", held["token_embd.weight"])
    return norm(x, held["output_norm.weight"]) @ head.T


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
@pytest.mark.parametrize("quantised", [False, True])
def test_the_converted_model_computes_the_logits_of_the_file(tmp_path: Path, arch: str, quantised: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    held = write_gguf(tmp_path / "tiny.gguf", arch, quantised=quantised)
    folder = convert_gguf(tmp_path / "tiny.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = [3, 200, 17, 17, 45, 256, 99]
    with torch.no_grad():
        computed = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(computed, logits(held, arch, ids), rtol=2e-4, atol=2e-4)


def test_half_precision_keeps_the_tensors_and_halves_the_folder(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    held = write_gguf(tmp_path / "tiny.gguf", "qwen2")
    folder = convert_gguf(tmp_path / "tiny.gguf", dtype="float16")
    [shard] = folder.glob("*.safetensors")
    written = load_file(shard)
    assert len(written) == len(held)
    assert written["lm_head.weight"].dtype == np.float16
    np.testing.assert_array_equal(written["lm_head.weight"], held["output.weight"].astype(np.float16))


def test_the_tokenizer_keeps_ids_specials_and_template(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    write_gguf(tmp_path / "tiny.gguf", "qwen2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(convert_gguf(tmp_path / "tiny.gguf"))
    tokens = [*byte_tokens(), "he", "ll", "<|im_end|>", "<tool_call>"]
    ids = tokenizer("hello<tool_call>é<|im_end|>")["input_ids"]
    assert [tokens[i] for i in ids] == ["he", "ll", "o", "<tool_call>", "Ã", "©", "<|im_end|>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hello<tool_call>é"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi<|im_end|>"
    assert json.loads((tmp_path / "tiny.float32.hf" / "generation_config.json").read_text())["eos_token_id"] == [258]


def test_the_second_call_reuses_the_folder_and_a_new_file_replaces_it(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_gguf(source, "llama")
    folder = convert_gguf(source)
    made = (folder / "conversion.json").stat().st_mtime_ns
    assert convert_gguf(source) == folder
    assert (folder / "conversion.json").stat().st_mtime_ns == made
    before = (folder / "conversion.json").read_text()
    write_gguf(source, "llama", seed=1)
    assert convert_gguf(source) == folder
    assert (folder / "conversion.json").read_text() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.float32.hf", "tiny.gguf"]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"no_last_layer": True}, "missing"),
        ({"no_template": True}, "no chat template"),
        ({"bad_value": True}, "not a finite number"),
    ],
)
def test_a_damaged_model_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, damage: dict[str, Any], complaint: str
) -> None:
    write_gguf(tmp_path / "tiny.gguf", "llama", **damage)
    with pytest.raises(ModelError, match=complaint):
        convert_gguf(tmp_path / "tiny.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    source = tmp_path / "tiny.gguf"
    write_gguf(source, "llama")
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ModelError):
        convert_gguf(source)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", "gemma")
    with pytest.raises(ModelError, match="'gemma' is not supported"):
        convert_gguf(tmp_path / "tiny.gguf")


def test_names_and_folders_reach_vllm_unchanged_and_wrong_paths_do_not(tmp_path: Path) -> None:
    assert resolve_weights("Qwen/Qwen2.5-Coder-7B-Instruct", cpu=False) == "Qwen/Qwen2.5-Coder-7B-Instruct"
    assert resolve_weights(str(tmp_path), cpu=True) == str(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        resolve_weights(str(tmp_path / "missing.gguf"), cpu=True)
    with pytest.raises(ModelError, match="no such folder"):
        resolve_weights(str(tmp_path / "missing"), cpu=True)
