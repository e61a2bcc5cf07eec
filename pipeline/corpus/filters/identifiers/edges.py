r"""Where a number begins and ends, and what the words before it say it is.

`\b` doesn't do: it sees no edge between a Han character and a digit. A number is bounded by what isn't an ASCII letter
or digit, and isn't part of a longer number: a decimal, a price, an interval, a product code.
"""

import re

Span = tuple[int, int]
"""Start and end of an identifier in a text."""

BEGIN = r"(?<![0-9A-Za-z_+$€£¥￥#*])(?<![0-9A-Za-z]-)(?<![0-9][.:])(?:(?<![0-9]/)|(?<=[0-9]{5}/))"
"""No longer word or number before. After a slash only where that parts two long numbers."""
END = (
    r"(?![0-9A-Za-z_@%*]|[-.:][0-9]|-[A-Za-z]|,[0-9]{3}(?![0-9-])|/[0-9]{1,4}(?![0-9])"
    r"| ?(?:[元万亿%]|per ?cent|dollars|USD|EUR|RMB)| ?\[?(?:bytes|[kKM]B|GB|[num]?s|[MG]?Hz)(?![A-Za-z]))"
)
"""No longer word or number after, no decimals, no unit of a quantity."""

_ADDRESS = re.compile(r"(?:://|www\.|(?<![0-9])10\.[0-9]{4,9}/|(?:doi|arxiv):)[!-~]*\Z", re.IGNORECASE)
_CATALOGUED = re.compile(
    r"(?:I ?S ?[BS] ?N|DOI|PMID|OCLC|LCCN|arXiv|ISO|timestamp|total|订单号?|定单号?|书号)[^0-9\n]{0,8}\Z", re.IGNORECASE
)
_REACH = 24
_LONGEST_ADDRESS = 256


def told(text: str, start: int, words: re.Pattern[str]) -> bool:
    """Whether the few characters before `start` hold one of `words`, which are anchored to their end."""
    return words.search(text[max(0, start - _REACH) : start]) is not None


def announced_by(words: str, chinese: str) -> re.Pattern[str]:
    """Alternatives of a regex, whole words and Chinese ones, with no number between them and what they announce."""
    return re.compile(rf"(?:(?<![A-Za-z])(?:{words})(?![A-Za-z])|{chinese})[^0-9\n]{{0,16}}\Z", re.IGNORECASE)


def within_address(text: str, start: int) -> bool:
    """Whether a URL or DOI has begun before `start` and goes on there."""
    return _ADDRESS.search(text[max(0, start - _LONGEST_ADDRESS) : start]) is not None


def catalogued(text: str, start: int) -> bool:
    """Whether the number at `start` is said to be a book's, a paper's, a standard's, an order's, a sum or a time."""
    return told(text, start, _CATALOGUED)


def digits_of(text: str) -> str:
    """The ASCII digits of `text`."""
    return "".join(filter("0123456789".__contains__, text))
