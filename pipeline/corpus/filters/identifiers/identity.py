"""National identity numbers: few, and such as can be told from other numbers.

A number is taken where a checksum agrees with a date, a region or a letter; a form that has no checksum, where its
punctuation or the words before it say what it is.

    CN  18 digits: region, date of birth, ISO 7064 MOD 11-2 (GB 11643-1999); the older 15 digits where announced
    HK  A123456(3): mod 11; without the parentheses where announced
    TW  A123456789: mod 10
    US  123-45-6789, without what was never issued (SSA, before and since 2011); else punctuated where announced
    ES  12345678Z, X1234567L: mod 23 gives the letter
    FR  1 85 05 78 006 084 91: sex, month, mod 97
    BR  123.456.789-09: two digits of mod 11
"""

import re
from collections.abc import Callable
from datetime import date
from itertools import accumulate

from pipeline.corpus.filters.identifiers.edges import BEGIN, END, Span, announced_by, digits_of, told, within_address

_LETTER_BEGIN = r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-.])"
_LETTER_END = r"(?![0-9A-Za-z_]|-[0-9A-Za-z])"
_ANNOUNCED = announced_by("HKID|identity|ID card|ID number|ID no", "身份证|身份證|身分证|身分證|证件|證件")
_CN_REGION = r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])[0-9]{4}"
_CN = re.compile(BEGIN + _CN_REGION + r"([ -]?)(?:18|19|20)[0-9]{6}\1[0-9]{3}[0-9Xx]" + END)
_CN_1984 = re.compile(BEGIN + _CN_REGION + r"[0-9]{9}" + END)
_HK = re.compile(_LETTER_BEGIN + r"([A-Z]{1,2})([0-9]{6}) ?(\([0-9A]\)|[0-9A])" + _LETTER_END)
_TW = re.compile(_LETTER_BEGIN + r"[A-Z][1289][0-9]{8}" + _LETTER_END)
_TW_LETTERS = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
_US = re.compile(BEGIN + r"(?!000|666|9)[0-9]{3}([- ]?)(?!00)[0-9]{2}\1(?!0000)[0-9]{4}" + END)
_US_ANNOUNCED = announced_by("SSN|social security", "社会安全号|社会安全号码")
_ES = re.compile(
    _LETTER_BEGIN + r"(?:[XYZ]-?[0-9]{7}|[0-9]{8}|[0-9]{1,2}\.[0-9]{3}\.[0-9]{3})[ -]?[A-HJ-NP-TV-Z]" + _LETTER_END
)
_ES_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_FR = re.compile(
    BEGIN + r"[12]( ?)[0-9]{2}\1(?:0[1-9]|1[0-2]|[2-9][0-9])\1[0-9][0-9AB]\1[0-9]{3}\1[0-9]{3} ?[0-9]{2}" + END
)
_BR = re.compile(BEGIN + r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}" + END)


def identity_number(text: str, start: int) -> Span | None:
    """Where an identity number lies whose first digit is at `start`."""
    for find in _COUNTRIES:
        if (span := find(text, start)) is not None:
            return None if within_address(text, span[0]) else span
    return None


def _china(text: str, start: int) -> Span | None:
    if match := _CN.match(text, start):
        number = match[0].replace(match[1], "").upper()
        return match.span() if _is_day(number[6:14]) and mod_11_2(number) else None
    if (match := _CN_1984.match(text, start)) and _is_day("19" + match[0][6:12]):
        return match.span() if told(text, start, _ANNOUNCED) else None
    return None


def mod_11_2(number: str) -> bool:
    """Whether the last character, a digit or X for ten, checks the others (ISO 7064)."""
    *_, remainder = accumulate(map(int, number[:-1]), lambda total, digit: (total + digit) * 2 % 11, initial=0)
    return "0123456789X"[(12 - remainder) % 11] == number[-1]


def _is_day(yyyymmdd: str) -> bool:
    try:
        date(int(yyyymmdd[:4]), int(yyyymmdd[4:6]), int(yyyymmdd[6:]))
    except ValueError:
        return False
    return True


def _hong_kong(text: str, start: int) -> Span | None:
    """Letters count from A = 10, a missing first one as 36; weights 9 to 2; the check digit brings the sum to 0."""
    match = _with_letters(_HK, text, start, 2)
    if match is None or not (match[3][0] == "(" or told(text, match.start(), _ANNOUNCED)):
        return None
    values = [int(letter, 36) for letter in match[1].rjust(2, "!").replace("!", "")]
    values = [36] * (2 - len(values)) + values + [int(digit) for digit in match[2]] + [int(match[3].strip("()"), 16)]
    return match.span() if sum(v * w for v, w in zip(values, range(9, 0, -1), strict=True)) % 11 == 0 else None


def _taiwan(text: str, start: int) -> Span | None:
    """The letter stands for 10 to 35, in an order of its own; weights 1, 9, 8, …, 1, 1."""
    if (match := _with_letters(_TW, text, start, 1)) is None:
        return None
    values = [*divmod(10 + _TW_LETTERS.index(match[0][0]), 10), *map(int, match[0][1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return match.span() if sum(v * w for v, w in zip(values, weights, strict=True)) % 10 == 0 else None


def _with_letters(pattern: re.Pattern[str], text: str, start: int, letters: int) -> re.Match[str] | None:
    """The match that begins up to `letters` characters before the digit at `start`."""
    for begin in range(max(0, start - letters), start):
        if match := pattern.match(text, begin):
            return match
    return None


def _united_states(text: str, start: int) -> Span | None:
    match = _US.match(text, start)
    return match.span() if match and (match[1] == "-" or told(text, start, _US_ANNOUNCED)) else None


def _spain(text: str, start: int) -> Span | None:
    """X, Y, Z of a foreigner's number count as 0, 1, 2."""
    if (match := _ES.match(text, start) or _with_letters(_ES, text, start, 2)) is None:
        return None
    number = digits_of(match[0].translate(str.maketrans("XYZ", "012", "-")) if match[0][0] in "XYZ" else match[0])
    return match.span() if _ES_LETTERS[int(number[:8]) % 23] == match[0][-1] else None


def _france(text: str, start: int) -> Span | None:
    """Corsica's departments 2A and 2B count as 19 and 18."""
    if (match := _FR.match(text, start)) is None:
        return None
    number = match[0].replace(" ", "").replace("2A", "19").replace("2B", "18")
    return match.span() if number.isdecimal() and (int(number[:13]) + int(number[13:])) % 97 == 0 else None


def _brazil(text: str, start: int) -> Span | None:
    if (match := _BR.match(text, start)) is None:
        return None
    digits = [int(digit) for digit in digits_of(match[0])]
    checks = [sum(d * w for d, w in zip(digits, range(n + 1, 1, -1), strict=False)) * 10 % 11 % 10 for n in (9, 10)]
    return match.span() if checks == digits[9:] and len(set(digits)) > 1 else None


_COUNTRIES: tuple[Callable[[str, int], Span | None], ...] = (
    _china, _hong_kong, _taiwan, _united_states, _spain, _france, _brazil,
)  # fmt: skip
