"""The stage: the same bytes under any map, nothing made twice, a failed shard redone alone, totals that add up."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.reading import is_heldout
from pipeline.dataset import sampling
from pipeline.dataset.build import build_dataset
from pipeline.dataset.entries import Entries
from pipeline.dataset.sampling import Unit
from pipeline.errors import ConfigError, CorruptArtifact, InputError
from pipeline.store import Store
from pipeline.vocabulary.layout import SPECIALS
from tests.artifacts import keys
from tests.dataset.byhand import HELDOUT_SHARE, SPLITS, WIDE_GATES, Parents, Watched, config, parents, vocabulary_of
from tests.maps import MAPS, forbidden, map_named
from tests.small import small_rows
from tests.texts import corpus, lines, source, write

SEP = SPECIALS.index("[SEP]")


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Parents:
    """Four shards to train on and two held out, in a store that tells what is made from now on."""
    given = parents(Watched(store.settings), tmp_path, small_rows())
    given.store.made_since()
    return given


def units(given: Parents, passes: int = 1) -> list[tuple[Any, ...]]:
    """All parts of a build."""
    tokens = [("tokens",)] * sum(map(given.shards, SPLITS))
    pairs = [
        ("pairs", split, shard, pass_)
        for split in SPLITS
        for shard in range(given.shards(split))
        for pass_ in range(passes if split == "train" else 1)
    ]
    return sorted(tokens + pairs)


# The bytes


def test_any_map_makes_the_same_bytes(store: Store, tmp_path: Path) -> None:
    digests = []
    for name in MAPS:
        there = Store(store.settings.model_copy(update={"store": (tmp_path / "stores" / name).as_uri()}))
        given = parents(there, tmp_path, small_rows(90))
        with map_named(name) as each:
            digests.append(given.build(map=each, dupe_factor=2, masks="stored").digest)
    assert len(set(digests)) == 1


@pytest.mark.parametrize("masks", ["each_epoch", "stored"])
def test_datasets_loads_the_files_with_the_rows_as_they_stand(given: Parents, tmp_path: Path, masks: str) -> None:
    import datasets

    made = given.build(masks=masks, rows_per_shard=100)
    for split in SPLITS:
        files = [str(given.store.file(made, e.path)) for e in given.store.manifest(made).matching(f"{split}/")]
        loaded = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / split))
        table = given.table(made, split)
        assert loaded.to_list() == table.to_pylist()
        assert loaded.column_names == table.column_names
    expected = {
        "input_ids": pa.list_(pa.uint16()),
        "segment_boundary": pa.uint16(),
        "word_starts": pa.list_(pa.bool_()),
        "next_sentence_label": pa.uint8(),
    }
    stored = {"masked_lm_positions": pa.list_(pa.uint16()), "masked_lm_inputs": pa.list_(pa.uint16())}
    assert {field.name: field.type for field in table.schema} == expected | (stored if masks == "stored" else {})


def test_files_hold_as_many_rows_as_the_config_says_in_one_batch(given: Parents) -> None:
    made = given.build(rows_per_shard=60)
    for split in SPLITS:
        entries = given.store.manifest(made).matching(f"{split}/")
        assert [entry.path for entry in entries] == [f"{split}/{number:05d}.arrow" for number in range(len(entries))]
        readers = [pa.ipc.open_file(given.store.blob(entry)) for entry in entries]
        assert [reader.num_record_batches for reader in readers] == [1] * len(readers)
        sizes = [reader.read_all().num_rows for reader in readers]
        assert sizes == [entry.rows for entry in entries]
        assert max(sizes) == 60
        assert sum(size < 60 for size in sizes) <= given.shards(split), "what a corpus shard leaves over"
    assert given.table(made, "train").equals(given.table(given.build(), "train"))


def test_blocks_of_documents_and_shards_at_hand_change_no_byte(given: Parents, monkeypatch: pytest.MonkeyPatch) -> None:
    made = given.build(dupe_factor=2)
    for name, value in {"BLOCK_TOKENS": 100, "MAPPED_BYTES": 1, "MAPPED_SHARDS": 2}.items():
        monkeypatch.setattr(sampling, name, value)
    for key in keys(given.store, "parts/pairs/"):
        given.store.backend.delete(key)
    given.store.made_since()
    again = given.build(dupe_factor=2, force=True)
    assert ("pairs", "train", 0, 1) in given.store.made_since()
    assert again.digest == made.digest


def test_the_card_is_that_of_a_recount(given: Parents) -> None:
    made, first = given.build(dupe_factor=2, masks="stored"), given.table(given.build(), "train")
    totals, metrics = given.store.manifest(made).totals, given.store.manifest(made).metrics
    for split, passes in (("train", 2), ("heldout", 1)):
        rows, card = given.table(made, split).to_pylist(), metrics[split]
        lengths = [len(row["input_ids"]) for row in rows]
        assert totals["rows"][split] == card["samples"] == len(rows)
        assert totals["tokens"][split] == card["tokens"] == sum(lengths)
        assert card["fill"] == pytest.approx(sum(lengths) / (48 * len(rows)))
        binned = Counter(-(-length // 6) * 6 for length in lengths)
        assert card["fill_by_length"] == {f"up to {bin_}": binned[bin_] / len(rows) for bin_ in range(6, 49, 6)}
        assert card["random_next_share"] == pytest.approx(sum(row["next_sentence_label"] for row in rows) / len(rows))
        tokens = sum(len(shard.tokens) for shard in given.tokens(split))
        assert card["source_tokens"] == tokens
        assert card["unknown_share"] == 0
        assert card["sources"] == {"mine": 1.0}
        own = sum(
            row["segment_boundary"] - 2 if row["next_sentence_label"] else length - 3
            for row, length in zip(rows, lengths)
        )
        assert card["used_share"] == pytest.approx(own / (passes * tokens))
        assert card["masks_per_sample"] == pytest.approx(
            sum(len(row["masked_lm_positions"]) for row in rows) / len(rows)
        )
        halves = [rows] if passes == 1 else [rows[: len(first)], rows[len(first) :]]
        distinct = sum(len({tuple(row["input_ids"]) for row in half}) for half in halves)
        assert card["duplicate_share"] == pytest.approx(1 - distinct / len(rows))
    assert totals["max_seq_length"] == 48
    assert totals["vocabulary_size"] == given.store.manifest(given.vocabulary).totals["size"]
    assert (totals["mask_id"], totals["undrawable_ids"]) == (4, [0, 1, 2, 3, 4])


def test_the_lengths_of_all_samples_stand_in_one_file(given: Parents) -> None:
    made = given.build(dupe_factor=2, rows_per_shard=60)
    for split in SPLITS:
        lengths = np.load(given.store.file(made, f"{split}.lengths.npy"), allow_pickle=False)
        assert lengths.dtype == np.uint16
        assert lengths.tolist() == [len(row) for row in given.table(made, split)["input_ids"]]


def test_each_pass_over_the_train_part_has_other_pairs_and_the_heldout_part_has_one(given: Parents) -> None:
    once, thrice = given.build(), given.build(dupe_factor=3)
    assert given.table(thrice, "heldout").equals(given.table(once, "heldout"))
    first, all_passes = (given.table(made, "train").to_pylist() for made in (once, thrice))
    assert all_passes[: len(first)] == first
    second = all_passes[len(first) :]
    assert len(second) == pytest.approx(2 * len(first), rel=0.1)
    assert sum(row in first for row in second) < 0.1 * len(second)


def test_samples_are_the_texts_of_all_shards_in_order_with_other_text_where_b_is_random(given: Parents) -> None:
    made = given.build()
    for split in SPLITS:
        shards = [spelled(shard.tokens) for shard in given.tokens(split)]
        text, place = f" {' | '.join(shards)} ", 0
        for row in given.table(made, split).to_pylist():
            first, second = spelled(row["input_ids"][1:-1]).strip().split(f" {SEP} ")
            own = first if row["next_sentence_label"] else f"{first} {second}"
            assert f" {own} " in text[place:], "after what the sample before has used"
            place = text.index(f" {own} ", place) + len(own)
            assert f" {second} " in text
        assert place > len(text) - 9, "up to the last document's end"


def spelled(ids: Iterable[int]) -> str:
    return " ".join(map(str, ids))


def test_no_word_of_a_heldout_document_is_in_a_train_sample(store: Store, tmp_path: Path) -> None:
    rows = [
        row | {"text": f"{'snow ice' if is_heldout(row['group'], HELDOUT_SHARE) else 'mill river'} {row['id']} it."}
        for row in small_rows()
    ]
    rows = [row | {"text": "\n".join([row["text"]] * 4)} for row in rows]
    given = parents(store, tmp_path, rows, 20)
    vocabulary = vocabulary_of(store, [*SPECIALS, "mill", "river", "snow", "ice", "it", "."])
    made = build_dataset(config(gates=WIDE_GATES), given.corpus, vocabulary, store=store)
    sides = [{token for row in given.table(made, split)["input_ids"].to_pylist() for token in row} for split in SPLITS]
    assert sides == [{1, 2, 3, 5, 6, 9, 10}, {1, 2, 3, 7, 8, 9, 10}]


def test_what_never_stands_in_for_a_word_is_read_from_the_vocabulary(store: Store) -> None:
    tokens = ["[unused0]", *SPECIALS, "mill", "[unused1]", "##s", "##ing", "#", "[", "unused"]
    entries = Entries.load(store, vocabulary_of(store, tokens))
    assert (entries.cls, entries.sep, entries.mask, entries.unknown) == (3, 4, 5, 2)
    assert entries.undrawable == (0, 1, 2, 3, 4, 5, 7)
    assert np.flatnonzero(entries.continues).tolist() == [8, 9]
    assert entries.size == len(tokens)


# Nothing twice


def test_a_finished_dataset_is_found_and_a_forced_one_is_the_same(given: Parents) -> None:
    made = given.build()
    assert given.build(map=forbidden) == made
    forced = given.build(force=True)
    assert (forced.version, forced.digest) == (f"{made.version}-2", made.digest)


@pytest.mark.parametrize("change", [{"max_seq_length": 32}, {"seed": 1}])
def test_another_length_or_seed_makes_no_new_tokens(given: Parents, change: dict[str, int]) -> None:
    made = given.build()
    assert given.store.made_since() == units(given)
    other = given.build(**change)
    assert given.store.made_since() == [part for part in units(given) if part[0] == "pairs"]
    assert not given.table(other, "train").equals(given.table(made, "train"))


def test_a_grown_corpus_makes_tokens_of_its_new_shards_alone_and_all_pairs(given: Parents, tmp_path: Path) -> None:
    given.build()
    given.store.made_since()
    (tmp_path / "grown").mkdir()
    path = write(tmp_path / "grown" / "a.jsonl", lines(small_rows(210)))
    table = corpus(source(path), heldout_share=HELDOUT_SHARE, documents_per_shard=25)
    grown = Parents(given.store, ingest_corpus(table, store=given.store), given.vocabulary)
    shards = {e.sha256 for e in given.store.manifest(given.corpus).files}
    new = [e for split in SPLITS for e in given.store.manifest(grown.corpus).matching(split) if e.sha256 not in shards]
    assert 0 < len(new) < sum(map(grown.shards, SPLITS))
    given.store.made_since()
    grown.build()
    made = given.store.made_since()
    assert made.count(("tokens",)) == len(new)
    assert [part for part in made if part[0] == "pairs"] == [part for part in units(grown) if part[0] == "pairs"]


def test_one_more_pass_makes_that_pass_alone(given: Parents) -> None:
    given.build()
    given.store.made_since()
    given.build(dupe_factor=2)
    assert given.store.made_since() == [("pairs", "train", shard, 1) for shard in range(given.shards("train"))]


def test_other_masks_or_gates_make_neither_tokens_nor_pairs(given: Parents) -> None:
    given.build()
    given.store.made_since()
    given.build(masker={"name": "whole_word"}, masked_lm_prob=0.2, gates={"max_duplicate_share": 0.2})
    assert given.store.made_since() == []


def test_a_failed_unit_of_pairs_is_redone_alone(given: Parents, store: Store, tmp_path: Path) -> None:
    failing = Unit("train", 1, 0)

    def stumbling(fn: Callable[[Any], Any], items: Iterable[Any], /) -> list[Any]:
        items = list(items)
        done = [fn(item) for item in items if item != failing]
        if failing in items:
            raise OSError("the disk is full")
        return done

    with pytest.raises(OSError, match="the disk is full"):
        given.build(map=stumbling)
    assert not given.store.versions("dataset")
    left = ("pairs", "train", 1, 0)
    assert given.store.made_since() == [part for part in units(given) if part != left]
    made = given.build()
    assert given.store.made_since() == [left]
    undisturbed = Store(store.settings.model_copy(update={"store": (tmp_path / "undisturbed").as_uri()}))
    assert made.digest == parents(undisturbed, tmp_path, small_rows()).build().digest


def test_of_shards_that_can_be_read_none_is_tokenised_again(given: Parents) -> None:
    missing = given.store.manifest(given.corpus).matching("train/")[2]
    blob = given.store.blob(missing)
    hidden = blob.rename(blob.with_suffix(".hidden"))
    with map_named("processes") as each, pytest.raises(CorruptArtifact, match=r"train/00002\.arrow is missing"):
        given.build(map=each)
    assert len(keys(given.store, "parts/tokens/")) == len([part for part in units(given) if part[0] == "tokens"]) - 1
    hidden.rename(blob)
    given.build()
    assert given.store.made_since() == [part for part in units(given) if part[0] == "pairs"] + [("tokens",)]


# Refused


def refused(given: Parents) -> str:
    """The sentence of a refusal that publishes nothing."""
    with pytest.raises(InputError) as error:
        given.build()
    assert not given.store.versions("dataset")
    return str(error.value)


def sided(split: str) -> list[dict[str, str]]:
    """Documents of that side, each a group."""
    rows = [row | {"group": row["id"]} for row in small_rows(60)]
    return [row for row in rows if is_heldout(row["group"], HELDOUT_SHARE) is (split == "heldout")]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_one_document_is_refused(store: Store, tmp_path: Path, split: str) -> None:
    (other,) = {*SPLITS} - {split}
    given = parents(store, tmp_path, [*sided(split)[:1], *sided(other)])
    assert refused(given) == (
        f"The {split} part of {given.corpus} has 1 document(s) with text: next-sentence pairs need text of "
        f"another document, so at least 2. Add documents, or change corpus.heldout_share, or set dataset.pairs to "
        '"sop" or "none", which need one.'
    )


@pytest.mark.parametrize("with_text", [0, 1])
def test_documents_without_a_token_do_not_count_as_another(store: Store, tmp_path: Path, with_text: int) -> None:
    blank = [row | {"text": "\u200b" * number} for number, row in enumerate(sided("heldout"), start=1)]
    given = parents(store, tmp_path, [*sided("train"), *sided("heldout")[:with_text], *blank[with_text:]])
    assert f"The heldout part of {given.corpus} has {with_text} document" in refused(given)


def test_a_split_of_lone_tokens_is_refused_for_it_makes_no_sample(store: Store, tmp_path: Path) -> None:
    lone = [row | {"text": letter} for letter, row in zip("abcdefghijk", sided("heldout"))]
    assert "heldout" in refused(parents(store, tmp_path, [*sided("train"), *lone]))


def test_an_unknown_masker_is_refused_before_any_work_with_the_nearest_name(given: Parents) -> None:
    with pytest.raises(ConfigError) as error:
        given.build(map=forbidden, masker={"name": "whole_wrod"})
    assert "There is no masker 'whole_wrod'. Did you mean 'whole_word'?" in str(error.value)
    with pytest.raises(ConfigError, match="The masker 'token' has no keyword 'share'. It takes none"):
        given.build(map=forbidden, masker={"name": "token", "share": 0.2})
