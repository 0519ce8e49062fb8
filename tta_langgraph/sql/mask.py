"""Hiding values that a prompt must not carry: secrets, addresses, numbers that name a person."""

from __future__ import annotations

import re


def masked(value: str, column: str = "") -> str:
    """The value, or what it looks like in angle brackets.

    Args:
        value: as it would be shown.
        column: the column's name; some names hide whatever they hold.
    """
    words = set(_WORDS.findall(_HUMPS.sub("_", column).lower()))
    for label, names in _NAMES.items():
        if words & names:
            return f"<{label}>"
    for label, pattern in _LOOKS.items():
        if pattern.search(value):
            return f"<{label}>"
    return value


_WORDS = re.compile(r"[a-z0-9]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAMES = {
    "secret": frozenset(
        {"password", "passwd", "pwd", "secret", "token", "apikey", "credential", "credentials", "passphrase", "salt"}
    ),
    "email": frozenset({"email", "mail"}),
    "phone": frozenset({"phone", "telephone", "mobile", "fax"}),
    "number": frozenset({"ssn", "iban", "passport", "cvv"}),
}
_LOOKS = {
    "email": re.compile(r"[^@\s<>]+@[^@\s<>]+\.[a-zA-Z]{2,}"),
    "secret": re.compile(
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\b(?:sk|pk|rk)[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|"
        r"\bxox[abprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|\$2[aby]\$\d\d\$[./\w]{50,}|\$argon2|"
        r"\bglpat-[\w-]{16,}|\bAIza[\w-]{30,}|\b[0-9a-f]{32,}\b|\b(?=[\w+/-]*\d)(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])"
        r"[\w+/-]{32,}={0,2}"
    ),
    "phone": re.compile(r"^\s*(?:\+\d[\d\s().-]{7,}\d|\(?\d{3}\)?[\s.-]\d{3}[\s.-]\d{4}(?:\s*x\d+)?)\s*$"),
    "number": re.compile(r"^\s*(?:\d{3}-\d{2}-\d{4}|(?:\d{4}[ -]?){3}\d{4}|[A-Z]{2}\d{2}[A-Z0-9]{11,30})\s*$"),
}
