"""Ids are those of `tokenizers`, on any text, whatever the encoder remembers and however small its buffers are."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from pipeline.errors import ConfigError
from pipeline.store import Store
from pipeline.vocabulary import encoder as module
from pipeline.vocabulary.encoder import Encoder
from pipeline.vocabulary.layout import LONGEST_WORD, SPECIALS
from pipeline.vocabulary.tokenizer import Form, make_tokenizer
from tests.dataset.byhand import vocabulary_of
from tests.vocabulary.oracle import FORMS, KEPT, NASTY, TEXTS, ids_of, random_texts, tokenizer_for

SAMPLES = Path(module.__file__).parents[1] / "corpus" / "samples"
ALL_FORMS = [
    pytest.param(Form(form.lowercase, form.strip_accents, whole), id=f"{name}, {len(whole)} kept")
    for name, form in FORMS.items()
    for whole in ((), KEPT)
]
AT_ONCE = 20_000
"""Random texts at once."""


def encoded(encoder: Encoder, texts: Sequence[str]) -> list[list[int]]:
    ids, starts = encoder.encode(texts)
    assert ids.dtype == encoder.dtype
    assert starts.dtype == np.int64
    assert (len(starts), starts[0], starts[-1]) == (len(texts) + 1, 0, len(ids))
    return [each.tolist() for each in np.split(ids, starts[1:-1])] if texts else []


@pytest.fixture(scope="module", params=ALL_FORMS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """One that knows all characters of random and of nasty texts."""
    return tokenizer_for([NASTY, *KEPT, *SPECIALS, *random_texts(0, 2_000)], request.param)


@pytest.fixture(scope="module")
def encoder(tokenizer: Tokenizer) -> Encoder:
    return Encoder(tokenizer)


@pytest.mark.long(5_000, 1_000_000)
def test_ids_of_random_unicode_are_those_of_tokenizers(tokenizer: Tokenizer, encoder: Encoder, rounds: int) -> None:
    for seed, first in enumerate(range(0, rounds, AT_ONCE)):
        texts = random_texts(seed, min(AT_ONCE, rounds - first))
        for text, ours, theirs in zip(texts, encoded(encoder, texts), ids_of(tokenizer, texts), strict=True):
            assert ours == theirs, ascii(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_ids_of_nasty_texts_are_those_of_tokenizers(tokenizer: Tokenizer, encoder: Encoder, texts: list[str]) -> None:
    assert encoded(encoder, texts) == ids_of(tokenizer, texts)


def sample(name: str, size: int) -> list[str]:
    """The first texts of one of the samples that ship, about `size` characters of them."""
    texts, read = [], 0
    with (SAMPLES / name).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, "utf-8"):
            texts.append(json.loads(line)["text"])
            read += len(texts[-1])
            if read > size:
                break
    return texts


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["sotu-en.jsonl.zst", "ci-zh.jsonl.zst"])
def test_ids_of_real_text_are_those_of_tokenizers(name: str, form: Form) -> None:
    texts = sample(name, 300_000)
    tokenizer = tokenizer_for(texts, form)
    encoder = Encoder(tokenizer)
    theirs = ids_of(tokenizer, texts)
    assert encoded(encoder, texts) == theirs
    assert encoded(encoder, texts[::-1]) == theirs[::-1], "and again, all of its words remembered"


TINY = st.tuples(st.sampled_from([40, 41, 100]), st.integers(1, 5), st.integers(1, 3))


@settings(max_examples=100, deadline=None)
@given(TEXTS, TINY, st.sampled_from([(), KEPT]))
def test_ids_are_the_same_with_tiny_tables_and_buffers(
    texts: list[str], sizes: tuple[int, int, int], kept: tuple[str, ...]
) -> None:
    form = Form(whole=kept)
    texts = [*texts, "ab" * 50 + " é\u302e " + "\U0001f600" * 99, *random_texts(3, 5)]
    tokenizer = tokenizer_for(texts, form)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("MEMO_WORDS", "WORDS_AT_ONCE", "ASKED_AT_ONCE"), sizes, strict=True):
            patch.setattr(module, name, size)
        encoder = Encoder(tokenizer)
        for _ in range(2):
            assert encoded(encoder, texts) == ids_of(tokenizer, texts)


def test_a_memo_that_was_full_forgets_and_fills_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMO_WORDS", 50)
    words = [f"{one}{two}" for one in "abcdefghijklm" for two in "nopqrstuvwxyz"]
    texts = [" ".join(words), " ".join(words[::-1]), " ".join(words * 3)]
    tokenizer = tokenizer_for(texts, Form())
    assert encoded(Encoder(tokenizer), texts) == ids_of(tokenizer, texts)


def test_marks_are_put_in_canonical_order_where_accents_are_stripped() -> None:
    for form, order in ((Form(), "a\U0001d165\u302e"), (Form(lowercase=False), "a\u302e\U0001d165")):
        tokenizer = tokenizer_for(["a\u302e\U0001d165"], form)
        first, *others = order
        expected = [tokenizer.token_to_id(token) for token in (first, *(f"##{mark}" for mark in others))]
        assert encoded(Encoder(tokenizer), ["a\u302e\U0001d165"]) == [expected] == ids_of(tokenizer, [order])


def small(*whole: str) -> Tokenizer:
    return make_tokenizer([*SPECIALS, *"a b m s ] [ mask ##a ##b the ##the".split(), *whole], Form(whole=whole))


def test_a_special_token_that_is_written_out_is_text() -> None:
    tokenizer = small()
    assert not tokenizer.encode_special_tokens
    assert encoded(Encoder(tokenizer), ["[MASK]", "[MASK]\u302e a"]) == [
        [tokenizer.token_to_id(token) for token in "[ mask ]".split()],
        [tokenizer.token_to_id(token) for token in "[ mask ] [UNK] a".split()],
    ]
    assert not tokenizer.encode_special_tokens, "the caller's tokenizer stays as it was"


def test_of_tokens_kept_whole_the_leftmost_is_taken_and_of_these_the_longest() -> None:
    tokenizer = small("a b", "ab", "b m", "ab a", "[EMAIL]")
    tokens = [tokenizer.id_to_token(each) for each in encoded(Encoder(tokenizer), ["mab ab a bm a[EMAIL]b"])[0]]
    assert tokens == ["m", "ab a", "b", "a b", "m", "a", "[EMAIL]", "b"]


def test_a_kept_token_that_overlaps_a_special_one_is_not_found() -> None:
    tokenizer = small("MASK", "] a", "[MA")
    texts = ["[MASK] a", "MASK", "a[MASK] a[MA", "[MASK\u302e] a"]
    found = encoded(Encoder(tokenizer), texts)
    assert found[0] == [tokenizer.token_to_id(token) for token in "[ mask ] a".split()]
    assert found[1] == [tokenizer.token_to_id("MASK")]
    tokenizer.encode_special_tokens = True
    assert found == ids_of(tokenizer, texts)


def test_texts_are_read_to_their_end_whatever_the_tokenizer_is_set_to() -> None:
    tokenizer = small()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding()
    found = encoded(Encoder(tokenizer), ["a b m s a\u302e b\u302e m", "\u302e"])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert found == ids_of(tokenizer, ["a b m s a\u302e b\u302e m", "\u302e"])
    assert len(found[0]) == 7


@pytest.mark.parametrize("texts", [[], [""], ["", "", ""], [" \n"], ["\x00\u200b"], ["", "a", "", "\u302e", ""]])
def test_empty_texts_have_no_ids(texts: list[str]) -> None:
    assert encoded(Encoder(small()), texts) == ids_of(small(), texts)


def test_texts_may_be_given_as_utf8_from_any_byte_on() -> None:
    data = np.frombuffer("the河水 the éab".encode(), np.uint8)
    encoder = Encoder(small())
    ids, starts = encoder.encode_flat(data, np.array([3, 9, len(data)]))
    expected, expected_starts = encoder.encode(["河水", " the éab"])
    assert ids.tolist() == expected.tolist()
    assert starts.tolist() == expected_starts.tolist()


def test_two_encoders_of_one_process_do_not_mix() -> None:
    texts = ["The mask abba", "abba the The"]
    one, other = tokenizer_for(["the"], Form()), tokenizer_for([*texts, "T"], Form(lowercase=False))
    encoders = Encoder(one), Encoder(other)
    for _ in range(2):
        assert encoded(encoders[0], texts) == ids_of(one, texts)
        assert encoded(encoders[1], texts) == ids_of(other, texts)


@pytest.mark.parametrize(("size", "expected"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_ids_are_of_the_smallest_type_that_holds_all(size: int, expected: type) -> None:
    entries = [*SPECIALS, *(f"w{number}" for number in range(len(SPECIALS), size))]
    encoder = Encoder(make_tokenizer(entries, Form()))
    assert encoder.dtype is expected
    assert encoded(Encoder(make_tokenizer(entries, Form())), [entries[-1]]) == [[size - 1]]


def test_a_vocabulary_with_gaps_between_its_ids_keeps_them() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "mill": 70_000}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    assert encoded(Encoder(tokenizer), ["mill x"]) == [[70_000, 0]]


def test_an_encoder_is_loaded_from_a_vocabulary_of_the_store(store: Store) -> None:
    encoder = Encoder.load(store, vocabulary_of(store, [*SPECIALS, "mill", "##s"]))
    assert encoded(encoder, ["Mills [MASK]"]) == [[5, 6, 1, 1, 1]]


def spoiled(how: str) -> Tokenizer:
    tokenizer = small()
    if how == "normalizer":
        tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False)
    elif how == "none":
        tokenizer.normalizer = None
    elif how == "pre-tokenizer":
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    elif how == "kind":
        tokenizer.model = models.BPE()
    elif how == "words":
        tokenizer.model = models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD + 1)
    elif how == "unknown":
        tokenizer.model = models.WordPiece({"a": 0}, unk_token="[UNK]")
    else:
        tokenizer.add_tokens([AddedToken("mill", **{how: True})])
    return tokenizer


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("normalizer", "its normalizer"),
        ("none", "its normalizer"),
        ("pre-tokenizer", "its pre-tokenizer"),
        ("kind", "its model"),
        ("words", "its model"),
        ("unknown", "its unknown token"),
        ("normalized", "an added token"),
        ("single_word", "an added token"),
        ("lstrip", "an added token"),
        ("rstrip", "an added token"),
    ],
)
def test_a_tokenizer_that_is_not_berts_is_refused_with_what_differs(how: str, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"isn't of BERT's kind: {named} differs\. Wanted are BertNormalizer with"):
        Encoder(spoiled(how))
