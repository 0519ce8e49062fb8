"""Finding the answer in a reply: a boxed expression, the final line, a number, a label; and their normal
forms.

SQL is found by `tta_langgraph.sql.extract_sql`. A parser of your own is any function from the reply to the
answer or None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from tta_langgraph.errors import GraphError


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, with balanced braces; None without one or if it was cut off."""
    for match in reversed(list(_BOXED.finditer(text))):
        depth, start = 1, match.end()
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start:position].strip() or None
    return None


@dataclass(frozen=True)
class FinalLine:
    """The last line that is not empty, without a marker such as `Answer:` or `####`.

    Args:
        marker_required: take only a line that carries a marker, the last of them.
    """

    marker_required: bool = False
    """Whether a line without a marker is no answer."""
    needs_end: bool = True
    """A reply that was cut off has no final line."""

    def __call__(self, text: str) -> str | None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for line in reversed(lines):
            marked = _MARKER.match(line)
            if marked:
                return marked["rest"].strip(" *`") or None
            if not self.marker_required:
                return line.strip(" *`") or None
        return None


final_line = FinalLine()
"""The last line that is not empty, without its marker."""


@dataclass(frozen=True)
class Number:
    r"""The number a solution ends with: in `\boxed{}`, after `####` or `answer is`, else the last one named.

    Returns it in normal form (`"1,000.0"` -> `"1000"`).
    """

    needs_end: bool = True
    """The last number of a reply that was cut off is no answer."""

    def __call__(self, text: str) -> str | None:
        marked = list(_ANSWER_IS.finditer(text))
        for place in (boxed(text) or "", marked[-1]["rest"] if marked else ""):
            found = _NUMBER.search(place)
            if found:
                return normal_number(found[0])
        every = _NUMBER.findall(text)
        return normal_number(every[-1]) if every else None


number = Number()
"""The number a solution ends with."""


@dataclass(frozen=True)
class Label:
    """One of a closed set of labels, named as a whole word in any case.

    The last line decides if it names exactly one, else the whole reply must name exactly one: a reply that
    weighs "positive" against "negative" without a verdict has no answer.

    Args:
        labels: the labels, as they shall be returned.
    """

    labels: tuple[str, ...]
    """The labels, as they are returned."""

    def __init__(self, *labels: str) -> None:
        if len({label.casefold() for label in labels}) != len(labels) or len(labels) < 2:
            raise GraphError(
                f"labels {labels!r}",
                where="Label",
                remedy="Give at least two labels that differ in more than case",
            )
        object.__setattr__(self, "labels", labels)

    def __call__(self, text: str) -> str | None:
        lines = [line for line in text.splitlines() if line.strip()]
        for part in (lines[-1] if lines else "", text):
            named = [label for label in self.labels if _names(part, label)]
            if len(named) == 1:
                return named[0]
        return None


def normal_number(answer: str) -> str | None:
    """A number without currency, thousands separators and trailing zeros; None if it is none."""
    plain = _NUMBER_NOISE.sub("", answer.replace("−", "-")).rstrip(".")
    try:
        value = Decimal(plain)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    text = f"{value.normalize():f}"
    return "0" if text == "-0" else text


def normal_expression(answer: str) -> str | None:
    r"""Folds a LaTeX answer: spacing commands, `\left`, `\dfrac`, `\text{}`, dollar signs, a unit of degrees.

    Numbers come out in normal form. Equivalent but differently written expressions stay different.
    """
    text = _LATEX_NOISE.sub("", answer)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}", r"\1", text)
    text = "".join(text.split()).strip("$").rstrip(".")
    return normal_number(text) or text.casefold() or None


def _names(text: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.I) is not None


_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_MARKER = re.compile(
    r"(?:[#>*\- ]*(?:the )?(?:final )?(?:answer|result|label|translation)(?: is)?\s*[:=*]+|#{2,})"
    r"\s*(?P<rest>.*)",
    re.I,
)
_ANSWER_IS = re.compile(r"(?:####|answer\b[^\n\d$€£-]{0,40})(?P<rest>[^\n]*)", re.I)
_NUMBER = re.compile(r"[-−]?[$€£]?\d[\d,]*(?:\.\d+)?|[-−]?\.\d+")
_NUMBER_NOISE = re.compile(r"[$€£%,\s]")
_LATEX_NOISE = re.compile(r"\\left|\\right|\\[,;:!> ]|\\%|\\\$|\^\{?\\circ\}?|\\displaystyle")
