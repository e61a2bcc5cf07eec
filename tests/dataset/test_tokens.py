"""Tokens are `tokenizers`' own of each sentence, in the smallest type, made once for a shard and a vocabulary."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline.corpus.document import read_documents
from pipeline.dataset.text.sentences import split_sentences
from pipeline.dataset.tokens import Shard, load_shard, text_hashes, tokenise_shard
from pipeline.store import Store
from pipeline.store.keys import blob_key
from pipeline.vocabulary.encoder import token_type
from pipeline.vocabulary.layout import SPECIALS
from tests.artifacts import keys
from tests.dataset.byhand import shard_of, vocabulary_of
from tests.small import Small

WORDS = [*SPECIALS, "the", "mill", "river", "##s", ".", "[", "]", "mask", "sep"]
UNKNOWN = WORDS.index("[UNK]")


def listed(shard: Shard) -> list[list[list[int]]]:
    """The ids of each sentence of each document."""
    sentences = [shard.tokens[first:last].tolist() for first, last in pairwise(shard.sentences.tolist())]
    return [sentences[first:last] for first, last in pairwise(shard.documents.tolist())]


def word_starts(shard: Shard) -> list[int]:
    """The places of the tokens at which words start."""
    return np.flatnonzero(np.unpackbits(shard.word_starts, bitorder="little")).tolist()


def tokenised(store: Store, folder: Path, texts: list[str], tokens: list[str] = WORDS) -> Shard:
    part = tokenise_shard(shard_of(store, texts), vocabulary=vocabulary_of(store, tokens), segmenter=None, store=store)
    return load_shard(part, store)


def test_ids_are_those_of_tokenizers_on_the_same_sentences(small: Small) -> None:
    tokenizer = Tokenizer.from_file(str(small.store.file(small.vocabulary, "tokenizer.json")))
    for entry in small.store.manifest(small.corpus).matching("train/"):
        part = tokenise_shard(entry, vocabulary=small.vocabulary, segmenter=None, store=small.store)
        expected = [
            [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in split_sentences(document.text)]
            for document in read_documents(small.store.blob(entry))
        ]
        shard = load_shard(part, small.store)
        assert listed(shard) == expected
        pieces = [tokenizer.id_to_token(each) for document in expected for ids in document for each in ids]
        assert word_starts(shard) == [place for place, piece in enumerate(pieces) if not piece.startswith("##")]
        assert part.record == {
            "documents": entry.rows,
            "documents_with_text": entry.rows,
            "sentences": sum(map(len, expected)),
            "tokens": len(pieces),
            "sources": {"small": {"documents": entry.rows, "tokens": len(pieces)}},
            "type": "uint16",
            "unknown": pieces.count("[UNK]"),
        }


def test_documents_and_sentences_worked_by_hand(store: Store, tmp_path: Path) -> None:
    shard = tokenised(store, tmp_path, ["The mill. The rivers.\nMill", "\u200b", "Snow mills."])
    assert listed(shard) == [[[5, 6, 9], [5, 7, 8, 9], [6]], [[UNKNOWN, 6, 8, 9]]], "nothing is empty"
    assert word_starts(shard) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 11]


def test_documents_of_several_record_batches_stay_in_order(store: Store, tmp_path: Path) -> None:
    numbers = [number % 7 for number in range(450)]
    shard = tokenised(store, tmp_path, ["mill " * number + "river." for number in numbers])
    assert listed(shard) == [[[6] * number + [7, 9]] for number in numbers]
    assert word_starts(shard) == list(range(len(shard.tokens)))


@pytest.mark.parametrize("texts", [["\u200b", "\u200d"], []], ids=["no tokens", "no documents"])
def test_a_shard_without_tokens_is_one_all_the_same(store: Store, tmp_path: Path, texts: list[str]) -> None:
    shard = tokenised(store, tmp_path, texts)
    assert listed(shard) == []
    assert word_starts(shard) == []


def test_equal_texts_have_equal_hashes_and_others_have_others(store: Store) -> None:
    texts = ["mill", "the mill", "mill", "mill.", "mill the river", "mill the river", "m", "Mill", "mill\x00"]
    data = "".join(texts).encode()
    starts = np.cumsum([0, *(len(text) for text in texts)])
    hashes = text_hashes(np.frombuffer(data, np.uint8), starts).tolist()
    assert [hashes.index(each) for each in hashes] == [texts.index(text) for text in texts]


def test_a_special_written_out_in_a_text_is_text(store: Store, tmp_path: Path) -> None:
    shard = tokenised(store, tmp_path, ["The [SEP] mill [MASK]."])
    left, right, mask, sep = (WORDS.index(token) for token in ("[", "]", "mask", "sep"))
    assert listed(shard) == [[[5, left, sep, right, 6, left, mask, right, 9]]], "as google-research/bert parts it"


# The type


@pytest.mark.parametrize(("size", "expected"), [(16, np.uint16), (65_536, np.uint16), (65_537, np.uint32)])
def test_ids_take_two_bytes_up_to_65536_entries_and_four_from_there(size: int, expected: Any) -> None:
    assert token_type(size) is expected
    assert np.iinfo(token_type(size)).max >= size - 1


@pytest.mark.parametrize(("size", "expected"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_last_entry_of_a_large_vocabulary_keeps_its_id(
    store: Store, tmp_path: Path, size: int, expected: Any
) -> None:
    tokens = [*SPECIALS, *(f"w{number}" for number in range(5, size))]
    shard = tokenised(store, tmp_path, [f"w5 w{size - 1} w{size}"], tokens)
    assert listed(shard) == [[[5, size - 1, UNKNOWN]]]
    assert shard.tokens.dtype == expected


# Again


def test_the_part_is_remembered_so_that_a_second_call_makes_nothing(store: Store, tmp_path: Path) -> None:
    entry, vocabulary = shard_of(store, ["The mill."]), vocabulary_of(store, WORDS)
    made = tokenise_shard(entry, vocabulary=vocabulary, segmenter=None, store=store)
    there = keys(store)
    store.backend.delete(blob_key(entry.sha256))  # what it would be made from
    assert tokenise_shard(entry, vocabulary=vocabulary, segmenter=None, store=store) == made
    assert keys(store) == [key for key in there if key != blob_key(entry.sha256)]


def test_another_vocabulary_makes_another_part(store: Store, tmp_path: Path) -> None:
    entry = shard_of(store, ["Snow."])
    for tokens, expected in ((WORDS, [UNKNOWN, 9]), ([*WORDS, "snow", "ice", "hail"], [14, 9])):
        part = tokenise_shard(entry, vocabulary=vocabulary_of(store, tokens), segmenter=None, store=store)
        assert listed(load_shard(part, store)) == [[expected]]
    assert len(keys(store, "parts/tokens/")) == 2
