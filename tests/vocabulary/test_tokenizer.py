"""The files that a vocabulary leaves give one tokenizer, whoever reads them, and it is BERT's."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from pipeline.corpus.cleaning import normalised
from pipeline.vocabulary.layout import LONGEST_WORD, SPECIALS
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES, Form, make_tokenizer, split_tokens, write_tokenizer_files

PIECES = "the mill ##s grind ##ing a b c e i m o u n ##a ##b ##c ##e ##i ##m ##o ##u ##n ' , . ! ? 河 水 磨 é ß σ ı"
VOCABULARY = [*SPECIALS, *PIECES.split()]


@dataclass(frozen=True)
class Files:
    """One folder of files, read by all."""

    ours: Tokenizer
    fast: Any
    auto: Any
    reference: Any


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tokenizer")
    lowercase: bool = request.param
    write_tokenizer_files(folder, VOCABULARY, Form(lowercase))
    assert sorted(path.name for path in folder.iterdir()) == sorted(TOKENIZER_FILES)
    path = str(folder / "vocab.txt")
    return Files(
        Tokenizer.from_file(str(folder / "tokenizer.json")),
        BertTokenizer(vocab=path, do_lower_case=lowercase),
        AutoTokenizer.from_pretrained(folder),
        BertTokenizerLegacy(path, do_lower_case=lowercase),
    )


TEXTS = st.text(
    st.sampled_from("abceimounthglsrd THEMILLS',.!?河水磨éßσİı\u0301\u0308\u00a0\u200b\ufeff\x00\t\n")
    | st.characters(codec="utf-8"),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
@example("The mill's grinding 河水, Chloé!", "mills")
@example("[MASK] the [SEP] mill", "")
def test_every_reader_of_the_files_gives_the_same_ids(files: Files, text: str, pair: str) -> None:
    ours = files.ours.encode(text, pair) if pair else files.ours.encode(text)
    for reader in (files.fast, files.auto):
        theirs = reader(text, pair) if pair else reader(text)
        assert theirs["input_ids"] == ours.ids
        assert theirs["token_type_ids"] == ours.type_ids


def known_alike(character: str) -> bool:
    """Whether Python's Unicode and `tokenizers`' are sure to agree on it: old, and no final sigma to make."""
    category = unicodedata.category(character)
    is_old = unicodedata.ucd_3_2_0.category(character) == category
    return is_old and category not in ("Cn", "Co", "Cs") and character not in "Σ"


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.sampled_from("abceimounthglsrd THE',.!?河水éßİ\u0301\u00a0\x00\t") | st.characters().filter(known_alike))
)
@example("The mill's grinding 河水, Chloé!")
@example("a" * 101 + " " + "a" * 100)
def test_ids_of_a_corpus_text_are_those_of_googles_own_python(files: Files, text: str) -> None:
    text = normalised(text)
    tokens = files.reference.tokenize(text)
    assert files.ours.encode(text, add_special_tokens=False).tokens == tokens


WHOLE = ("[NAME]", "New York", "New York City", "磨坊", "a-b")


@pytest.fixture(scope="module")
def with_whole_tokens(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What is read from one folder whose vocabulary has tokens that are kept whole; ours first."""
    folder = tmp_path_factory.mktemp("whole")
    write_tokenizer_files(folder, [*SPECIALS, *WHOLE, *PIECES.split()], Form(whole=WHOLE))
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [ours, *(kind.from_pretrained(folder) for kind in (AutoTokenizer, BertTokenizer, BertTokenizerLegacy))]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([*WHOLE, *SPECIALS, "New", "[NAME", "new york", "the", "Mills", "河", "磨", ",", " "])
    ).map("".join)
)
@example("[NAME]New York City,New Yorks a-b-b 磨坊磨 [name]")
def test_every_reader_finds_tokens_kept_whole_as_they_are_written(with_whole_tokens: list[Any], text: str) -> None:
    ours, *readers = with_whole_tokens
    expected = ours.encode(text).ids
    assert [reader(text)["input_ids"] for reader in readers] == [expected] * 3


def test_the_longest_of_the_tokens_kept_whole_is_found(with_whole_tokens: list[Any]) -> None:
    tokens = with_whole_tokens[0].encode("New York City mill[NAME]s New York [name]", add_special_tokens=False).tokens
    assert tokens[:5] == ["New York City", "mill", "[NAME]", "[UNK]", "New York"]
    assert tokens[5:] == ["[UNK]", "n", "##a", "##m", "##e", "[UNK]"]


def test_tokens_of_one_word_are_parted_from_those_found_as_they_are_written() -> None:
    given = ["Mill", "MILL", "naïve", "New York", "河", "河水", "a-b", "x" * 100, "y" * 101, "[NAME]"]
    assert split_tokens(given, True, None) == (
        ["mill", "naive", "河", "x" * 100],
        ["New York", "河水", "a-b", "y" * 101, "[NAME]"],
    )
    assert split_tokens(given[:3], False, None) == (["Mill", "MILL", "naïve"], [])


def ours(lowercase: bool = True, strip_accents: bool | None = None) -> Tokenizer:
    return make_tokenizer(VOCABULARY, Form(lowercase, strip_accents))


def test_ids_are_the_places_in_the_vocabulary() -> None:
    assert ours().get_vocab() == {token: number for number, token in enumerate(VOCABULARY)}
    assert [ours().token_to_id(token) for token in SPECIALS] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Mills grinding", "the mill ##s grind ##ing"),
        ("millx", "[UNK]"),
        ("mill's", "mill ' [UNK]"),
        ("河水mill磨", "河 水 mill 磨"),
        ("the [MASK] mill", "the [MASK] mill"),
        ("É", "e"),
    ],
)
def test_the_longest_piece_from_the_left_is_taken(text: str, tokens: str) -> None:
    assert ours().encode(text, add_special_tokens=False).tokens == tokens.split()


def test_accents_stay_where_the_config_says() -> None:
    assert ours(strip_accents=False).encode("É", add_special_tokens=False).tokens == ["é"]
    assert ours(lowercase=False).encode("é", add_special_tokens=False).tokens == ["é"]


def test_a_word_over_the_longest_is_unknown() -> None:
    assert ours().encode("a" * LONGEST_WORD, add_special_tokens=False).tokens == ["a"] + ["##a"] * (LONGEST_WORD - 1)
    assert ours().encode("a" * (LONGEST_WORD + 1), add_special_tokens=False).tokens == ["[UNK]"]


def test_a_pair_is_framed_and_typed() -> None:
    encoding = ours().encode("the mill", "mills")
    assert encoding.tokens == ["[CLS]", "the", "mill", "[SEP]", "mill", "##s", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1, 1]


def test_the_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tokenizer_files(tmp_path / name, VOCABULARY, Form())
    for name in TOKENIZER_FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
