"""The tokenizer inside a GGUF file, written as the files `transformers` and vLLM read.

Byte-level BPE only. The pre-tokenizer is not in the file, only its name; the patterns below are the published
ones of the models that carry the name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tta_langgraph.errors import ModelError

__all__ = ["check_tokenizer", "stop_token_ids", "tokenizer_files"]


def tokenizer_files(field: Callable[..., Any], *, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Contents of `tokenizer.json` and `tokenizer_config.json`.

    Args:
        field: GGUF metadata lookup, `(key, default=None) -> value`.
        where: named in errors.

    Raises:
        ModelError: not a byte-level BPE, an unknown pre-tokenizer, or no chat template.
    """
    kind, pre = field("tokenizer.ggml.model"), field("tokenizer.ggml.pre")
    template = field("tokenizer.chat_template")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise ModelError(
            f"tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported",
            where=where,
            remedy=f"Supported: byte-level BPE with one of {', '.join(_PRE_TOKENIZERS)}",
        )
    if not template:
        raise ModelError("the model has no chat template", where=where, remedy="Choose an instruct model")
    tokens: list[str] = field("tokenizer.ggml.tokens")
    types: list[int] = field("tokenizer.ggml.token_type")
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": types[index] == _CONTROL,
        }
        for index, token in enumerate(tokens)
        if types[index] in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre in _NFC else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[pre]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in field("tokenizer.ggml.merges")],
        },
    }
    return tokenizer, _config(field, tokens, template)


def stop_token_ids(field: Callable[..., Any]) -> list[int]:
    """Every id that ends a turn: the declared ones, and control tokens known by name (as llama.cpp does)."""
    tokens: list[str] = field("tokenizer.ggml.tokens")
    types: list[int] = field("tokenizer.ggml.token_type")
    declared = {field(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")}
    named = {i for i, token in enumerate(tokens) if types[i] == _CONTROL and token in _END_TOKENS}
    return sorted(named | {index for index in declared if index is not None})


def check_tokenizer(path: Path, tokens: Sequence[str]) -> None:
    """Loads the written tokenizer: each id must be its token, and text must survive encoding and decoding.

    Raises:
        ModelError: the written tokenizer disagrees with the vocabulary of the model file.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    wrong = [index for index, token in enumerate(tokens) if tokenizer.token_to_id(token) != index]
    if wrong:
        raise ModelError(
            f"{len(wrong)} token ids changed, first {wrong[0]} ({tokens[wrong[0]]!r})",
            where=str(path),
            remedy="Serve this model from its official repository",
        )
    for text in _ROUND_TRIP:
        back = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        if back != text:
            raise ModelError(f"text does not survive: {text!r} became {back!r}", where=str(path))


def _config(field: Callable[..., Any], tokens: Sequence[str], template: str) -> dict[str, Any]:
    def token(name: str) -> str | None:
        index = field(f"tokenizer.ggml.{name}_token_id")
        return None if index is None else tokens[index]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(field("tokenizer.ggml.add_bos_token", False)),
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "pad_token": token("padding"),
        "model_max_length": field(f"{field('general.architecture')}.context_length"),
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }


def _split(pattern: str) -> list[dict[str, Any]]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        byte_level,
    ]


_CONTROL, _USER_DEFINED = 3, 4  # token types of the GGUF specification
_NFC = ("qwen2",)
_END_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_CASED = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "qwen2": _split(_CONTRACTIONS + _CASED + r"|\p{N}" + _REST),
    "llama-bpe": _split(_CONTRACTIONS + _CASED + r"|\p{N}{1,3}" + _REST),
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    "gpt-2": [_BYTE_LEVEL],
}
_ROUND_TRIP = (
    "SELECT name, COUNT(*) FROM singer WHERE age >= 21 GROUP BY 1;",
    "  indented\n\tline\r\n\r\n1234567 it's WE'LL",
    "na\u00efve \u65e5\u672c\u8a9e \U0001f680 \u0645\u0631\u062d\u0628\u0627",
)
