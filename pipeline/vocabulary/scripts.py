"""Which script a character is of, by the first word of its name in Unicode: LATIN, CJK, CYRILLIC, ...

Near enough to Unicode's property Script, of which Python's library knows nothing.
"""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_ALIASES = {
    "CJK": "Han",
    "FEMININE": "Latin",  # the ordinals of Spanish and Italian
    "FULLWIDTH": "Latin",
    "HALFWIDTH": "Katakana",
    "IDEOGRAPHIC": "Han",
    "MASCULINE": "Latin",
    "MICRO": "Greek",
}
_LANGUAGES = {
    "Latin": "af az bs ca cs cy da de en eo es et eu fi fr ga gl ha hr hu id is it la lt lv ms mt nl no pl pt ro sk sl "
    "so sq sv sw tl tr uz vi xh yo zu",
    "Cyrillic": "be bg kk ky mk mn ru sr tg uk",
    "Arabic": "ar ckb fa ps sd ug ur",
    "Devanagari": "hi mr ne sa",
    "Han": "zh ja",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Hangul": "ko",
    "Greek": "el",
    "Hebrew": "he",
    "Armenian": "hy",
    "Georgian": "ka",
    "Ethiopic": "am",
    "Bengali": "bn",
    "Tamil": "ta",
    "Telugu": "te",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Khmer": "km",
    "Myanmar": "my",
}
WRITTEN_IN: Mapping[str, frozenset[str]] = {
    lang: frozenset(script for script, some in _LANGUAGES.items() if lang in some.split())
    for lang in " ".join(_LANGUAGES.values()).split()
}
"""ISO 639-1 codes, and the scripts of which their letters are; languages of several scripts are left out."""


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Its script; "Number" and "Other" for what is no letter."""
    if character.isalpha() or unicodedata.category(character) in ("Mn", "Mc"):
        first = unicodedata.name(character, "OTHER").split()[0].split("-")[0]
        return _ALIASES.get(first, first.capitalize())
    return "Number" if character.isnumeric() else "Other"


def count_letters(sums: npt.NDArray[np.int64]) -> dict[str, int]:
    """How many letters of each script there are. sums: [0x110000], of each code point how often it stands."""
    found = dict[str, int]()
    for point in np.flatnonzero(sums).tolist():
        if (script := script_of(chr(point))) not in ("Number", "Other"):
            found[script] = found.get(script, 0) + int(sums[point])
    return found
