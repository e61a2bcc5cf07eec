"""Telephone numbers, in the forms that people write.

    +CC …, 00CC …      a country code (ITU-T E.164) with as many digits as its numbers have
    (212) 555-0123     North America, without the codes that are never given (N11, x9x)
    020 7946 0958      a trunk 0, area and subscriber parted by something: Europe, China's landlines, Japan, Taiwan
    01 23 45 67 89     France
    13800138000        China's mobiles, plain or grouped, with or without 86
    0612345678         plain, where a country's numbers begin so: mobiles of FR, GB, DE; Beijing, Shanghai and the like
    Tel. 612 345 678   any number of 7 to 15 digits that the words before it announce

phonenumbers (Google's library) was weighed: its matcher runs at 8 MB/s and must be told one country for what has no +.
"""

import re
from collections.abc import Callable

from pipeline.corpus.filters.identifiers.edges import (
    BEGIN,
    END,
    Span,
    announced_by,
    catalogued,
    digits_of,
    told,
    within_address,
)

_EXTENSION = re.compile(r" ?(?:ext\.?|x|转|轉|分机) ?[0-9]{1,6}(?![0-9A-Za-z])", re.IGNORECASE)
_CODE = re.compile(
    r"1|7|2(?:0|7|1[12368]|[236][0-9]|4[0-689]|5[0-8]|9[01789])|3(?:[0-469]|5[0-9]|7[0-8]|8[0-35-79])|4(?:[013-9]|2[013])"
    r"|5(?:[1-8]|[09][0-9])|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])|8(?:[1246]|0[08]|5[02356]|7[08]|8[01236])"
    r"|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68])"
)
_DIGITS = {
    "1": (10,), "7": (10,), "31": (9,), "32": (8, 9), "33": (9,), "34": (9,), "41": (9,), "44": (9, 10), "45": (8,),
    "47": (8,), "48": (9,), "49": (6, 7, 8, 9, 10, 11, 12), "61": (9,), "65": (8,), "81": (9, 10), "86": (10, 11),
    "91": (10,), "351": (9,), "353": (7, 8, 9), "852": (8,), "853": (8,), "886": (8, 9),
}  # fmt: skip
"""Digits after the country code, without the trunk 0, where they are few; else 7 (6 after a code of three) to 12."""
_INTERNATIONAL = re.compile(BEGIN + r"\(?(?:\+|00)(?:[ .()/-]{0,3}[0-9]){8,16}")
_TRUNK_ZERO = re.compile(r"\( ?0 ?\)")
_NANP = r"[2-9](?!11)[0-8][0-9]"
_HEX = r"(?:[0-9][0-9A-Fa-f]|[A-Fa-f][0-9])"
_ROW = rf"(?<!{_HEX}[ .-])"  # a dump's row of pairs is no number of pairs
_NATIONAL = tuple(
    re.compile(BEGIN + form + END)
    for form in (
        rf"(?:1[ .-]?)?\({_NANP}\) ?[.-]?[2-9](?!11)[0-9]{{2}}[ .-]?[0-9]{{4}}",  # (212) 555-0123
        rf"(?:1[ .-])?{_NANP}([ .-])[2-9](?!11)[0-9]{{2}}\1[0-9]{{4}}",  # 212-555-0123
        rf"{_NANP}/[2-9](?!11)[0-9]{{2}}-[0-9]{{4}}",  # 212/555-0123
        rf"{_ROW}0[1-9]([ .-])(?:[0-9]{{2}}\1){{3}}[0-9]{{2}}(?! ?\1{_HEX}(?![0-9A-Za-z]))",  # 01 23 45 67 89
        r"400([ -])[0-9]{3}\1[0-9]{4}",  # 400-820-6666
        r"(?:\(?86\)?[ -]?)?1[3-9](?:[0-9]{9}|[0-9]([ -])(?:[0-9]{4}\1[0-9]{4}|[0-9]{3}\1[0-9]{5}|[0-9]{8})"
        r"|[0-9]{2}([ -])[0-9]{3}\2[0-9]{4}|[0-9]{5}[ -][0-9]{4})",  # 138 0013 8000
    )
)
_TRUNK = re.compile(
    BEGIN + _ROW + r"(?![0-9]{5}-[0-9]{4}(?![0-9]))"  # a ZIP+4 code, 02111-1307, is none
    r"(?:\(0[1-9][0-9]{0,4}\) ?-? ?[0-9]{2}|0[1-9](?: ?[/-] ?| )[0-9]{3}|0[1-9][0-9]{1,4}(?: ?[/-] ?| )[0-9]{2})"
    r"[0-9]{0,6}(?:([ -])[0-9]{2,4}(?:\1[0-9]{2,4}){0,2})?"
)
_PLAIN = re.compile(
    BEGIN + r"(?<![0-9] )(?![0-9]*([0-9])\1{6})"
    r"(?:0[67][0-9]{8}|07[0-9]{9}|01[567][0-9]{8,9}|0(?:10|2[0-9])[0-9]{8})(?! [0-9])" + END
)
_ANNOUNCED = announced_by(
    r"tel|(?:tele)?phones?|mobile|cell ?phones?|fax|call|dial|(?:hot|help)line|whatsapp|t[ée]l[ée]phone|tel[ée]fono?",
    "电话|電話|手机|手機|传真|傳真|热线|熱線|联系方式|致电|拨打",
)
_ANY = re.compile(BEGIN + r"\(?[0-9](?:[ ./()-]{0,3}[0-9]){6,14}")
_DATE = re.compile(r"(?:1[89]|20)[0-9]{2}[-./]|[0-9]{1,2}([-./])[0-9]{1,2}\1(?:1[89]|20)[0-9]{2}")
_RUN = re.compile(r"[0-9]+")
_END = re.compile(END)


def phone(text: str, start: int) -> Span | None:
    """Where a telephone number lies whose first digit is at `start`."""
    begin = start
    while begin > 0 and start - begin < 2 and text[begin - 1] in "+(":
        begin -= 1
    for first in (begin, start) if begin < start else (start,):
        if (end := _end(text, first)) is not None:
            extension = _EXTENSION.match(text, end)
            return None if within_address(text, first) else (first, extension.end() if extension else end)
    return None


def _end(text: str, start: int) -> int | None:
    """Where the number that begins at `start` ends, if there is one."""
    if (match := _INTERNATIONAL.match(text, start)) and (end := _longest(text, match.span(), _has_country)):
        return end
    if told(text, start, _ANNOUNCED):
        match = _ANY.match(text, start)
        return _longest(text, match.span(), _has_seven_digits) if match and not _DATE.match(text, start) else None
    if catalogued(text, start):
        return None
    for form in _NATIONAL:
        if match := form.match(text, start):
            return match.end()
    if match := _TRUNK.match(text, start):
        return _longest(text, match.span(), _has_nine_digits)
    match = _PLAIN.match(text, start)
    return match.end() if match else None


def _longest(text: str, span: Span, fits: Callable[[str], bool]) -> int | None:
    """The last end of a run of digits in `span` at which a number may end, and that what it ends fits."""
    start, _ = span
    for end in reversed([run.end() for run in _RUN.finditer(text, *span)]):
        if _END.match(text, end) and fits(text[start:end]):
            return end
    return None


def _has_country(written: str) -> bool:
    """Whether there is a country code, with as many digits after it as it needs."""
    digits = digits_of(_TRUNK_ZERO.sub("", written))
    dialled = "+" not in written
    digits = digits[2:] if dialled else digits
    if (match := _CODE.match(digits)) is None:
        return False
    code, national = match[0], digits[match.end() :]
    if dialled and (code not in _DIGITS or (written.isdecimal() and code != "86")):
        return False
    subscriber = national.removeprefix("0")
    if subscriber.startswith("0") or (code == "1" and subscriber[:1] < "2"):
        return False
    return len(subscriber) in _DIGITS.get(code, range(7 - len(code) // 3, 13))


def _has_seven_digits(written: str) -> bool:
    return 7 <= len(digits_of(written)) <= 15


def _has_nine_digits(written: str) -> bool:
    return 9 <= len(digits_of(written)) <= 12
