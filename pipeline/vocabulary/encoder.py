"""Texts to ids, compiled: exactly what `tokenizers` gives for the same vocabulary, many times as fast.

The words come from `words.py`; the few chunks of text that its table leaves open are asked of `tokenizers`, whose
result is the definition of what is right. Words that have been encoded are remembered, up to a bound. Memory: 40 MB,
and the ids.
"""

import json
import threading
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.store import Artifact, Store
from pipeline.vocabulary.layout import LONGEST_WORD
from pipeline.vocabulary.pieces import Bytes, Starts, cut_words, flat, pieces_of
from pipeline.vocabulary.tokenizer import ids_of, load_tokenizer
from pipeline.vocabulary.words import empty_words, gather_ids, number_words, rules_for

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MEMO_WORDS = 1 << 18
"""Words remembered at most."""
WORDS_AT_ONCE = 1 << 18
ASKED_AT_ONCE = 1 << 12
Ids = npt.NDArray[np.int32]
_last = threading.local()
"""The encoder that a thread loaded last: with its tables it takes as long to make as a small shard to encode."""


class Encoder:
    """Encodes without [CLS] and [SEP], as `tokenizer.encode_batch_fast(texts, add_special_tokens=False)` does.

    A special token that is written out in a text is text, and texts are neither cut short nor padded, whatever the
    tokenizer is set to. Raises ConfigError for a tokenizer that isn't BERT's.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        written = tokenizer.to_str()
        form = json.loads(written)
        _check_is_berts(form)
        vocabulary: dict[str, int] = form["model"]["vocab"]
        prefix: str = form["model"]["continuing_subword_prefix"]
        kept = {each["content"]: each["id"] for each in form["added_tokens"] if not each["special"]}
        specials = [each["content"] for each in form["added_tokens"] if each["special"] and not each["normalized"]]
        self.kept = (*kept, *specials) if kept else ()
        """What is found in a text before it is parted, where anything is."""
        self._tokenizer = _of_whole_texts(written)
        self._rules = rules_for(form["normalizer"]["lowercase"], form["normalizer"]["strip_accents"], kept, specials)
        self._pieces = pieces_of(vocabulary, prefix, form["model"]["unk_token"])
        self._words = empty_words(MEMO_WORDS, 12 * MEMO_WORDS)
        self._cut = np.empty(12 * MEMO_WORDS, np.int32)
        self._cut_starts = np.zeros(MEMO_WORDS + 1, np.int64)
        self._packed = np.empty(MEMO_WORDS, np.uint32)
        """Of each word its first piece's id, and in the last byte how many come behind it in `_cut`."""
        self._numbers = np.empty(WORDS_AT_ONCE, np.int32)
        self._asked = np.empty((ASKED_AT_ONCE, 4), np.int64)
        self.dtype = token_type(1 + max(ids_of(form).values()))

    @classmethod
    def load(cls, store: Store, vocabulary: Artifact) -> "Encoder":
        """The encoder of a vocabulary of the store; a thread that asks for the same again gets the same."""
        if getattr(_last, "digest", None) != vocabulary.digest:
            _last.encoder, _last.digest = cls(load_tokenizer(store, vocabulary)), vocabulary.digest
        encoder: Encoder = _last.encoder
        return encoder

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.unsignedinteger[Any]], Starts]:
        """The ids of all texts, one text's after the other, [N] `dtype`; and where each text's begin, int64 [T + 1]."""
        return self.encode_flat(*flat(texts))

    def encode_flat(self, text: Bytes, starts: Starts) -> tuple[npt.NDArray[np.unsignedinteger[Any]], Starts]:
        """As `encode`, of texts given as UTF-8 one after the other, and where each begins: [T + 1]."""
        ends, lengths = np.empty(len(starts) - 1, np.int64), np.zeros(len(starts) - 1, np.int64)
        ids, used = np.empty(int(starts[-1] - starts[0]), self.dtype), 0  # a text has no more than bytes
        number, at = 0, int(starts[0])
        while number < len(lengths):
            first, known = number, int(self._words.used[0])
            number, at, size, chunks = number_words(
                text, starts, number, at, self._rules, self._words, self._numbers, ends, self._asked
            )
            self._cut_new(known)
            asked = self._asked[:chunks]
            used += gather_ids(
                self._numbers[:size],
                ends[: number + 1],
                first,
                self._packed,
                self._cut,
                self._cut_starts,
                self._pieces.unknown,
                asked,
                *self._answers(text, asked),
                ids[used:],
                lengths,
            )
            if number < len(lengths) and size < len(self._numbers) and chunks < len(self._asked):
                self._words.clear()  # it was what is full
        begins = np.zeros(len(starts), np.int64)
        np.cumsum(lengths, out=begins[1:])
        return ids[:used], begins

    def _cut_new(self, known: int) -> None:
        """Cut the words of the table from number `known` on into their pieces."""
        words, used = self._words, int(self._words.used[0])
        cut_words(words.text, words.starts, known, used, self._pieces, self._cut, self._cut_starts)
        starts = self._cut_starts[known : used + 1]
        self._packed[known:used] = self._cut[starts[:-1]].astype(np.uint32) << 8 | (np.diff(starts) - 1)

    def _answers(self, text: Bytes, asked: Starts) -> tuple[Ids, Starts]:
        """The ids of the chunks that `tokenizers` is asked of, one's after the other; and where each one's begin."""
        starts = np.zeros(len(asked) + 1, np.int64)
        if not len(asked):
            return np.empty(0, np.int32), starts
        texts = [text[start:end].tobytes().decode() for start, end in asked[:, 1:3].tolist()]
        found = [each.ids for each in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        np.cumsum(list(map(len, found)), out=starts[1:])
        return np.fromiter(chain.from_iterable(found), np.int32, int(starts[-1])), starts


def token_type(vocabulary_size: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds every id."""
    return np.uint16 if vocabulary_size <= 1 << 16 else np.uint32


def _of_whole_texts(written: str) -> "Tokenizer":
    """A tokenizer of our own, that reads a text from end to end and special tokens as text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(written)
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _check_is_berts(form: dict[str, Any]) -> None:
    """Raise for what the compiled encoder doesn't do."""
    normalizer, model, parts = form["normalizer"] or {}, form["model"], form["pre_tokenizer"] or {}
    wanted = {
        "its normalizer": normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and normalizer["handle_chinese_chars"],
        "its pre-tokenizer": parts.get("type") == "BertPreTokenizer",
        "its model": model["type"] == "WordPiece" and model["max_input_chars_per_word"] == LONGEST_WORD,
        "its unknown token": model.get("unk_token") in model["vocab"],
        "an added token": all(
            each["special"] or not (each["normalized"] or each["single_word"] or each["lstrip"] or each["rstrip"])
            for each in form["added_tokens"]
        ),
    }
    if wrong := [name for name, holds in wanted.items() if not holds]:
        raise ConfigError(
            f"The tokenizer isn't of BERT's kind: {wrong[0]} differs. Wanted are BertNormalizer with clean_text and "
            f"handle_chinese_chars, BertPreTokenizer, WordPiece of words of {LONGEST_WORD} characters at most, an "
            f"unknown token of the vocabulary, and added tokens that are matched as they are written."
        )
