"""The tokenizer of the kit: budgets are only exact if cutting and counting agree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tta_langgraph.testing import count_tokens, tokenize


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


@given(st.text(), st.integers(0, 50))
def test_a_text_cut_after_k_pieces_counts_k(text: str, k: int) -> None:
    pieces = tokenize(text)[:k]
    assert count_tokens("".join(pieces)) == len(pieces)
