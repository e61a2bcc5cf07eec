"""The same vocabulary over any number of shards and under any map, with a card that says how it fits."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Plug, VocabularyConfig
from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.reading import is_heldout
from pipeline.errors import ConfigError
from pipeline.store import Artifact, Store
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.tokenizer import load_tokenizer
from tests.artifacts import keys
from tests.maps import MAPS, forbidden, map_named
from tests.texts import corpus, lines, rows, source, write

SHARE = 0.3


def made_corpus(store: Store, path: Path, given: list[dict[str, str]] | None = None, **more: Any) -> Artifact:
    data = lines(rows(60) if given is None else given)
    return ingest_corpus(corpus(source(write(path / "a.jsonl", data)), heldout_share=SHARE, **more), store=store)


def config(**more: Any) -> VocabularyConfig:
    return VocabularyConfig(**{"name": "small", "size": 90} | more)


def tokens(store: Store, made: Artifact) -> list[str]:
    return store.file(made, "vocab.txt").read_text(encoding="utf-8").splitlines()


def test_any_number_of_shards_makes_the_same_bytes(store: Store, tmp_path: Path) -> None:
    corpora = [made_corpus(store, tmp_path, documents_per_shard=size) for size in (1, 7, 1000)]
    assert len({len(store.manifest(each).matching("train/")) for each in corpora}) == 3
    assert len({build_vocabulary(config(), each, store=store).digest for each in corpora}) == 1


def test_any_map_makes_the_same_bytes(tmp_path: Path, store: Store) -> None:
    digests = []
    for name in MAPS:
        there = Store(store.settings.model_copy(update={"store": (tmp_path / "stores" / name).as_uri()}))
        made = made_corpus(there, tmp_path, documents_per_shard=7)
        with map_named(name) as each:
            digests.append(build_vocabulary(config(), made, store=there, map=each).digest)
    assert len(set(digests)) == 1


def test_a_finished_vocabulary_is_found_and_another_size_counts_nothing_again(any_store: Store, tmp_path: Path) -> None:
    of = made_corpus(any_store, tmp_path, documents_per_shard=20)
    made = build_vocabulary(config(), of, store=any_store)
    assert build_vocabulary(config(), of, store=any_store, map=forbidden) == made
    counted = keys(any_store, "parts/vocabulary/")
    smaller = build_vocabulary(config(size=70), of, store=any_store)
    assert keys(any_store, "parts/vocabulary/") == counted
    assert tokens(any_store, smaller) == tokens(any_store, made)[:70]
    assert len(tokens(any_store, made)) <= 90


def sided(heldout: bool, count: int) -> list[str]:
    """Names of groups that fall on that side."""
    names = (f"g{number}" for number in range(10_000))
    return [name for name, _ in zip((n for n in names if is_heldout(n, SHARE) is heldout), range(count))]


def document(group: str, text: str) -> dict[str, str]:
    return {"id": group, "group": group, "text": text}


def test_the_card_says_which_share_of_heldout_tokens_is_unknown(store: Store, tmp_path: Path) -> None:
    train = [document(group, f"mill river mill river {number % 2}") for number, group in enumerate(sided(False, 10))]
    train = [row | {"text": row["text"] + f" {row['id']}"} for row in train]
    held = [
        document(group, text) for group, text in zip(sided(True, 3), ["mill river ☃", "river ☃ ☃ mill", "mill, mill"])
    ]
    made = build_vocabulary(config(size=60, min_frequency=1), made_corpus(store, tmp_path, train + held), store=store)
    assert {"mill", "river"} <= set(tokens(store, made))
    assert "☃" not in tokens(store, made), "held-out text teaches nothing"
    card = json.loads(store.file(made, "card.json").read_text(encoding="utf-8"))
    # mill river [UNK], river [UNK] [UNK] mill, mill [UNK] mill: 10 tokens, of which 4 unknown; 10 words.
    assert card["heldout_documents"] == 3
    assert card["heldout_tokens"] == 10
    assert card["unknown_rate"] == pytest.approx(0.4)
    assert card["pieces_per_word"] == pytest.approx(1.0)
    assert card["characters_per_token"] == pytest.approx(len("millriver☃river☃☃millmill,mill") / 10)
    assert card["size"] == len(tokens(store, made))
    assert card.pop("dropped_characters") == [{"character": "☃", "count": 3}, {"character": ",", "count": 1}]
    assert card.pop("split_words") == []
    assert store.manifest(made).metrics == card


def test_tokens_that_stand_for_masked_text_are_kept_whole(store: Store, tmp_path: Path) -> None:
    given = [row | {"text": f"{row['text']} Write to m{number}@mill.org."} for number, row in enumerate(rows(60))]
    filters = (
        Plug(name="normalise"),
        Plug(name="mask_identifiers", kinds=["email"], patterns={"SACK": "[0-9]+ sacks"}),
    )
    of = made_corpus(store, tmp_path, given, filters=filters)
    made = build_vocabulary(config(), of, store=store)
    assert tokens(store, made)[5:7] == ["[EMAIL]", "[SACK]"]
    assert "[" not in tokens(store, made), "the tokens teach no word"
    tokenizer = load_tokenizer(store, made)
    encoding = tokenizer.encode("mill[EMAIL], [SACK] [email]", add_special_tokens=False)
    assert encoding.ids[1] == 5
    assert encoding.tokens[3] == "[SACK]"
    assert encoding.tokens.count("[EMAIL]") == 1


def test_chinese_characters_are_entries_of_their_own(store: Store, tmp_path: Path) -> None:
    given = [document(f"g{number}", f"河水流過磨坊mill{number}。") for number in range(40)]
    made = build_vocabulary(config(), made_corpus(store, tmp_path, given), store=store)
    found = set(tokens(store, made))
    assert set("河水流過磨坊。") <= found
    assert "mill" in found
    assert not [token for token in found if len(token) > 1 and set(token) & set("河水流過磨坊。")]


def test_a_size_that_can_not_hold_the_alphabet_publishes_nothing(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    with pytest.raises(ConfigError, match=r"size is 16, but .* are 60 entries: that is the smallest possible size"):
        build_vocabulary(config(size=16), of, store=store)
    assert [manifest.kind for manifest in store.versions()] == ["corpus"]


def test_a_minimum_that_leaves_nothing_gives_the_specials_alone(store: Store, tmp_path: Path) -> None:
    made = build_vocabulary(config(min_frequency=10**6), made_corpus(store, tmp_path), store=store)
    assert tokens(store, made) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert store.manifest(made).metrics["unknown_rate"] == 1.0


def test_the_vocabulary_is_made_from_that_corpus(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    assert store.parent(build_vocabulary(config(), of, store=store), "corpus") == of
