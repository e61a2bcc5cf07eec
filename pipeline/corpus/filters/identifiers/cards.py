"""Payment card numbers: ISO/IEC 7812, an issuer's prefix with one of its lengths, and the Luhn check digit."""

import re

from pipeline.corpus.filters.identifiers.edges import BEGIN, END, Span, catalogued, digits_of, within_address

_FORM = re.compile(
    BEGIN + r"(?:[0-9]{13,19}"
    r"|[0-9]{4}([ .-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ .-])[0-9]{6}\2[0-9]{4,5}"
    r"|[0-9]{6}[ -][0-9]{10,13})" + END
)
_ANY = range(13, 20)
_LONG = range(16, 20)
_ISSUERS: tuple[tuple[str, str, range | tuple[int, ...]], ...] = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, *_LONG)),  # Diners Club
    ("36", "36", (14, *_LONG)),
    ("38", "39", (14, *_LONG)),
    ("6011", "6011", _LONG),  # Discover
    ("644", "659", _LONG),
    ("3528", "3589", _LONG),  # JCB
    ("62", "62", _LONG),  # UnionPay
    ("2200", "2204", _LONG),  # Mir
    ("50", "50", _ANY),  # Maestro
    ("56", "58", _ANY),
    ("67", "67", _ANY),
)
"""The first and the last prefix of a range, and the lengths that are issued in it."""


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def card(text: str, start: int) -> Span | None:
    """Where a card number lies that begins with the digit at `start`."""
    if (match := _FORM.match(text, start)) is None:
        return None
    digits = digits_of(match[0])
    issued = any(low <= digits[: len(low)] <= high and len(digits) in lengths for low, high, lengths in _ISSUERS)
    if not issued or not luhn(digits) or catalogued(text, start) or within_address(text, start):
        return None
    return match.span()
