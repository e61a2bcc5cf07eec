"""The thresholds of the quality rules, by language: one table a filter, English, Chinese, every other language.

English has the papers' values: Gopher (Rae et al. 2021, section A.1.1 and table A1), C4 (Raffel et al. 2020, section
2.2, and tensorflow/datasets' c4_utils), FineWeb (Penedo et al. 2024, section 3.6). Chinese has FineWeb2's (Penedo et
al. 2025, cmn_Hani), which count the words of a dictionary, turned into ours, of one character: 1.6 times as many.
Other languages have English's without what is bound to it: its stop words, its word lengths, its marks. A preset's
keyword stands before the table; 0 or inf switches a rule off.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import inf
from typing import Any

from pipeline.corpus.filters.characters import terminals

_EN_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_ZH_STOP_WORDS = (*"的年在月是和日了於·為有被人中为他與後也而由不我这這一之其以者",)
_ANY_ENDS = terminals() + "\"'”’»"
_EN_TOP, _ZH_TOP = ((2, 0.20), (3, 0.18), (4, 0.16)), ((3, 0.256), (5, 0.201), (6, 0.171))
_EN_REPEATED = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
_ZH_REPEATED = ((8, 0.198), (10, 0.182), (11, 0.167), (13, 0.154), (14, 0.140), (16, 0.127))

# fmt: off
THRESHOLDS: Mapping[str, Mapping[str, tuple[Any, Any, Any]]] = {
    "gopher_quality": {                          # English           Chinese           every other
        "min_words":                             (50,                80,               50),
        "max_words":                             (100_000,           160_000,          100_000),
        "min_mean_word_length":                  (3,                 0,                0),
        "max_mean_word_length":                  (10,                3,                inf),
        "max_symbol_ratio":                      (0.1,               0.06,             0.1),
        "max_bullet_lines":                      (0.9,               0.9,              0.9),
        "max_ellipsis_lines":                    (0.3,               0.3,              0.3),
        "min_alphabetic_words":                  (0.8,               0.735,            0.7),
        "min_stop_words":                        (2,                 2,                0),
        "stop_words":                            (_EN_STOP_WORDS,    _ZH_STOP_WORDS,   ()),
    },
    "gopher_repetition": {
        "max_duplicate_paragraphs":              (0.3,               0.3,              0.3),
        "max_duplicate_paragraph_characters":    (0.2,               0.2,              0.2),
        "max_duplicate_lines":                   (0.3,               0.287,            0.3),
        "max_duplicate_line_characters":         (0.2,               0.2,              0.2),
        "top_n_grams":                           (_EN_TOP,           _ZH_TOP,          _EN_TOP),
        "duplicate_n_grams":                     (_EN_REPEATED,      _ZH_REPEATED,     _EN_REPEATED),
    },
    "c4": {
        "ends":                                  (".?!\"'",          _ANY_ENDS + "；…」』）", _ANY_ENDS),
        "terminal_punctuation":                  (True,              True,             True),
        "min_words_per_line":                    (3,                 5,                3),
        "max_word_length":                       (1_000,             1_000,            1_000),
        "min_sentences":                         (5,                 3,                5),
        "citations":                             (True,              True,             True),
        "lorem_ipsum":                           (True,              True,             True),
        "javascript":                            (True,              True,             True),
        "curly_bracket":                         (True,              True,             True),
        "policy":                                (True,              True,             True),
    },
    "fineweb": {
        "min_terminal_lines":                    (0.12,              0.106,            0.12),
        "short_line_length":                     (30,                12,               30),
        "max_short_lines":                       (0.67,              0.67,             0.67),
        "max_duplicate_characters":              (0.01,              0.1,              0.1),
        "max_newlines_per_word":                 (0.3,               0.11,             0.3),
    },
}
# fmt: on
"""Filter, keyword: the value for English, for Chinese, for every other language."""
_COLUMNS = {"en": 0, "eng": 0} | dict.fromkeys(["zh", "zho", "chi", "cmn", "yue", "wuu", "lzh", "hak", "nan", "gan"], 1)


def thresholds(filter: str, lang: str, **given: Any) -> Mapping[str, Any]:
    """The values of a filter's rules for a language (ISO 639, a region may follow), with those that are given."""
    return _settled(filter, lang, tuple(given.values()), tuple(given))


@lru_cache(maxsize=256)
def _settled(filter: str, lang: str, values: tuple[Any, ...], names: tuple[str, ...]) -> Mapping[str, Any]:
    column = _COLUMNS.get(lang.replace("_", "-").partition("-")[0].lower(), 2)
    table = {name: row[column] for name, row in THRESHOLDS[filter].items()}
    return table | {name: value for name, value in zip(names, values, strict=True) if value is not None}
