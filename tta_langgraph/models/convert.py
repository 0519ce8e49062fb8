"""GGUF to a folder that vLLM loads: safetensors, tokenizer and chat template, converted once and checked.

vLLM's GGUF plugin has GPU operators only, so on a CPU the embedded weights are dequantised first. Needs
`gguf`, `numpy`, `safetensors` and `tokenizers`; no torch, no pickle, no network. Architectures: `qwen2` and
`llama` with byte-level BPE.

Example:
    ```python
    from tta_langgraph.models.convert import convert_gguf

    folder = convert_gguf("SmolLM2-135M-Instruct.Q4_1.gguf")  # made once, beside the file
    ```
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tta_langgraph.errors import ModelError
from tta_langgraph.models.convert_tokenizer import check_tokenizer, stop_token_ids, tokenizer_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["DType", "convert_gguf", "hf_tensors"]

DType = Literal["float32", "float16"]
"""How the dequantised weights are stored. `float32` keeps every value, `float16` halves the folder; the type
that computes is chosen when the model is served."""

logger = logging.getLogger(__name__)


def convert_gguf(
    source: str | Path,
    target: str | Path | None = None,
    *,
    dtype: DType = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Converts a GGUF file into a Hugging Face folder, or returns the one made earlier from the same bytes.

    The folder is written under a temporary name and renamed when complete: a crash leaves nothing half-made,
    and two processes may convert at once.

    Args:
        source: the `.gguf` file.
        target: the folder to make; beside the source, named after it, by default.
        dtype: how weights are stored.
        progress: called with (tensors done, tensors in all).

    Returns:
        The folder, with `config.json`, `tokenizer.json`, a chat template and `*.safetensors`.

    Raises:
        ModelError: the file is missing, truncated, of an unsupported architecture or tokenizer, or the result
            fails its checks.
    """
    path = Path(source).expanduser()
    folder = Path(target).expanduser() if target else path.with_name(f"{path.stem}.{dtype}.hf")
    identity = {"converter": _VERSION, "dtype": dtype, "source_sha256": _sha256(path)}
    if _identity_of(folder) == identity:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _convert(path, working, dtype, progress)
        (working / _IDENTITY).write_text(json.dumps(identity, indent=1))
        _put_in_place(working, folder, identity)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return folder


def hf_tensors(reader: Any) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yields (name in transformers, dequantised float32 array) for every tensor of an open `GGUFReader`.

    llama.cpp stores the query and key rows of the `llama` architecture interleaved for its rotary embedding;
    transformers expects the two halves one after the other, so those rows are put back.

    Raises:
        ModelError: a tensor this converter has no name for, or one with a value that is not finite.
    """
    import numpy as np
    from gguf.quants import dequantize

    arch = _architecture(reader)
    heads = {"attn_q": _field(reader, f"{arch}.attention.head_count")}
    heads["attn_k"] = _field(reader, f"{arch}.attention.head_count_kv", heads["attn_q"])
    for tensor in reader.tensors:
        name, part = _hf_name(tensor.name)
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if not np.isfinite(values).all():
            raise ModelError(
                "a weight is not a finite number",
                where=tensor.name,
                remedy="Fetch the file again and check its SHA-256",
            )
        if arch == "llama" and part in heads:
            values = _rows_in_halves(values, int(heads[part]))
        yield name, values


def _convert(path: Path, out: Path, dtype: DType, progress: Callable[[int, int], None] | None) -> None:
    reader = _open(path)
    tokenizer, tokenizer_config = tokenizer_files(reader_fields(reader), where=str(path))
    shapes = _write_weights(reader, out, dtype, progress)
    _check_shapes(reader, shapes, str(path))
    _dump(out / "config.json", _config(reader, shapes, dtype))
    _dump(out / "generation_config.json", _generation_config(reader))
    _dump(out / "tokenizer.json", tokenizer)
    _dump(out / "tokenizer_config.json", tokenizer_config)
    check_tokenizer(out / "tokenizer.json", _field(reader, "tokenizer.ggml.tokens"))


def reader_fields(reader: Any) -> Callable[..., Any]:
    """The metadata of an open `GGUFReader` as a lookup `(key, default=None) -> value`."""
    return lambda key, default=None: _field(reader, key, default)


def _write_weights(
    reader: Any, out: Path, dtype: DType, progress: Callable[[int, int], None] | None
) -> dict[str, tuple[int, ...]]:
    """Writes shards of about a gibibyte, so that memory stays bounded; returns the shape of each tensor."""
    import numpy as np
    from safetensors.numpy import save_file

    shapes: dict[str, tuple[int, ...]] = {}
    shards: list[list[str]] = []
    pending: dict[str, Any] = {}
    size = 0

    def flush() -> None:
        nonlocal pending, size
        if pending:
            save_file(pending, out / f"shard-{len(shards)}", metadata={"format": "pt"})
            shards.append(list(pending))
        pending, size = {}, 0

    for done, (name, values) in enumerate(hf_tensors(reader), start=1):
        shapes[name] = values.shape
        pending[name] = values.astype(np.dtype(dtype), copy=False)
        size += pending[name].nbytes
        if size >= _SHARD_BYTES:
            flush()
        if progress:
            progress(done, len(reader.tensors))
    flush()
    weight_map: dict[str, str] = {}
    for index, names in enumerate(shards):
        shard = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        (out / f"shard-{index}").rename(out / shard)
        weight_map |= dict.fromkeys(names, shard)
    _dump(out / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return shapes


def _rows_in_halves(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    import numpy as np

    rows = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(values.shape))


def _hf_name(name: str) -> tuple[str, str]:
    """Name in transformers and the GGUF part (`attn_q`, ...)."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name], name
    pieces = name.split(".")
    if len(pieces) == 4 and pieces[0] == "blk" and pieces[2] in _LAYER_NAMES:
        return f"model.layers.{pieces[1]}.{_LAYER_NAMES[pieces[2]]}.{pieces[3]}", pieces[2]
    raise ModelError(
        "a tensor this converter does not know",
        where=name,
        remedy="Serve this model from its official repository",
    )


def _config(reader: Any, shapes: dict[str, tuple[int, ...]], dtype: DType) -> dict[str, Any]:
    arch = _architecture(reader)
    hidden, heads = _field(reader, f"{arch}.embedding_length"), _field(reader, f"{arch}.attention.head_count")
    return {
        "architectures": [_ARCHITECTURES[arch]],
        "model_type": arch,
        "vocab_size": shapes["model.embed_tokens.weight"][0],
        "hidden_size": hidden,
        "intermediate_size": _field(reader, f"{arch}.feed_forward_length"),
        "num_hidden_layers": _field(reader, f"{arch}.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _field(reader, f"{arch}.attention.head_count_kv", heads),
        "head_dim": _field(reader, f"{arch}.attention.key_length", hidden // heads),
        "max_position_embeddings": _field(reader, f"{arch}.context_length"),
        "rms_norm_eps": _field(reader, f"{arch}.attention.layer_norm_rms_epsilon"),
        "rope_theta": _field(reader, f"{arch}.rope.freq_base", 10000.0),
        "hidden_act": "silu",
        "attention_bias": "model.layers.0.self_attn.o_proj.bias" in shapes,
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "torch_dtype": dtype,
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _field(reader, "tokenizer.ggml.eos_token_id"),
        "use_cache": True,
    }


def _generation_config(reader: Any) -> dict[str, Any]:
    return {
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": stop_token_ids(reader_fields(reader)),
        "pad_token_id": _field(reader, "tokenizer.ggml.padding_token_id"),
    }


def _check_shapes(reader: Any, shapes: dict[str, tuple[int, ...]], where: str) -> None:
    """A file cut at a tensor boundary still parses; a missing layer or a wrong vocabulary must not."""
    arch = _architecture(reader)
    layers = _field(reader, f"{arch}.block_count")
    wanted = [n for n in _TOP_NAMES.values() if n != "lm_head.weight"]
    wanted += [f"model.layers.{i}.{n}.weight" for i in range(layers) for n in _LAYER_NAMES.values()]
    missing = [name for name in wanted if name not in shapes]
    if missing:
        raise ModelError(
            f"{len(missing)} tensors are missing, first {missing[0]}",
            where=where,
            remedy="Fetch the file again",
        )
    rows, tokens = shapes["model.embed_tokens.weight"][0], len(_field(reader, "tokenizer.ggml.tokens"))
    if rows != tokens:
        raise ModelError(f"{rows} embeddings for {tokens} tokens", where=where, remedy="Fetch the file again")


def _open(path: Path) -> Any:
    for needed in ("gguf", "safetensors", "tokenizers"):
        try:
            import_module(needed)
        except ImportError as error:
            raise ModelError(
                f"the package {needed} is not installed",
                where=f"convert({path.name})",
                remedy="pip install 'tta-langgraph[local]' safetensors tokenizers",
            ) from error
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(
            f"not a complete GGUF file: {error}",
            where=str(path),
            remedy="Fetch it again and check its SHA-256",
        ) from error
    _architecture(reader)
    return reader


def _architecture(reader: Any) -> str:
    arch = _field(reader, "general.architecture")
    if arch not in _ARCHITECTURES:
        raise ModelError(
            f"architecture {arch!r} is not supported",
            where="general.architecture",
            remedy=f"Supported: {', '.join(_ARCHITECTURES)}; serve others from their official repository",
        )
    if _field(reader, f"{arch}.rope.scaling.type", "none") not in ("none", None):
        raise ModelError(
            "scaled rotary embeddings are not supported",
            where=f"{arch}.rope.scaling.type",
            remedy="Serve this model from its official repository",
        )
    return str(arch)


def _field(reader: Any, key: str, default: Any = None) -> Any:
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"the file cannot be read: {error.strerror}",
            where=str(path),
            remedy="Give the path of a .gguf file",
        ) from error


def _identity_of(folder: Path) -> dict[str, Any] | None:
    try:
        identity: dict[str, Any] = json.loads((folder / _IDENTITY).read_text())
    except (OSError, ValueError):
        return None
    return identity


def _put_in_place(working: Path, folder: Path, identity: dict[str, Any]) -> None:
    """Renames the finished folder; another process that finished first with the same bytes is as good."""
    working.chmod(0o755)
    if folder.exists() and _identity_of(folder) != identity:
        stale = Path(tempfile.mkdtemp(prefix=f".{folder.name}-stale-", dir=folder.parent))
        os.replace(folder, stale / "old")
        shutil.rmtree(stale, ignore_errors=True)
    try:
        os.rename(working, folder)
    except OSError:
        if _identity_of(folder) != identity:
            raise
    logger.info("converted model is in %s", folder)


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


_VERSION = 1
_IDENTITY = "conversion.json"
_SHARD_BYTES = 1 << 30
_ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
