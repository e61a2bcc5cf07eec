"""Which copies go, beside the same rule in plain dictionaries; on real stores, under any ranges, workers and parts."""

import json
import tracemalloc
from collections import defaultdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import BoilerplateLines, Deduplication, NearDuplicates
from pipeline.corpus.cleaning import duplicate_key
from pipeline.corpus.copies import keys as keys_module
from pipeline.corpus.copies.keys import DocumentKeys, keys_path, kinds_of
from pipeline.corpus.deduplication import (
    REASONS,
    Copy,
    Dropped,
    KeyRange,
    dropped_of,
    repeated,
    without_lines,
)
from pipeline.corpus.document import Document
from pipeline.mapping import Map
from pipeline.settings import Settings
from pipeline.store import Part, PartDraft, Store, open_store
from tests.maps import MAPS, map_named

EXACT = Deduplication()
ALL = Deduplication(near=NearDuplicates(), lines=BoilerplateLines(copies=2, min_characters=3))
MILL = "The mill stands at the river and grinds all day what the farmers bring to it on their carts."


def document(id: str, text: str, group: str = "") -> Document:
    return Document(id, text, "mine", "en", group or id, "")


def part_of(store: Store, documents: list[Document], config: Deduplication) -> Part:
    def make(draft: PartDraft) -> dict[str, int]:
        keys = DocumentKeys(config, draft)
        for each in documents:
            keys.add(each)
        keys.write()
        return {}

    identity = [config.model_dump(mode="json"), [[d.id, d.text, d.group] for d in documents]]
    return store.part("corpus", json.dumps(identity), make)


def dropped(
    store: Store, parts: list[list[Document]], config: Deduplication, map: Map = map, range_keys: int = 1 << 21
) -> list[Dropped]:
    made = [part_of(store, documents, config) for documents in parts]
    repeats = repeated(made, config, store=store, map=map, range_keys=range_keys)
    return list(map(partial(dropped_of, repeats=repeats, store=store), range(len(parts))))


def reasons(found: list[Dropped]) -> list[list[str | None]]:
    return [[each.reason(row) for row in range(len(each.codes))] for each in found]


def lines(found: list[Dropped]) -> list[list[list[int]]]:
    return [[each.lines(row) for row in range(len(each.codes))] for each in found]


def test_the_first_of_equal_texts_and_ids_stays(any_store: Store) -> None:
    found = dropped(
        any_store,
        [
            [document("a", "The mill"), document("b", "  the\nMILL "), document("a", "The river")],
            [document("c", "The river"), document("b", "the mill"), document("d", "Another")],
        ],
        EXACT,
    )
    assert reasons(found) == [
        [None, "duplicate text", "duplicate id"],
        ["duplicate text", "duplicate id", None],
    ]
    assert found[0].counts == {"duplicate id": 1, "duplicate text": 1}
    assert found[0].examples == (Copy(1, "duplicate text", (0, 0)), Copy(2, "duplicate id", (0, 0)))
    assert found[1].examples == (Copy(0, "duplicate text", (0, 2)), Copy(1, "duplicate id", (0, 1)))


def test_a_near_copy_goes_and_a_different_text_stays(store: Store) -> None:
    changed, other = MILL.replace("all day,", "all night"), "A different text of a different length about other things."
    found = dropped(store, [[document("a", MILL)], [document("b", changed + " !"), document("c", other)]], ALL)
    assert reasons(found) == [[None], ["near duplicate", None]]
    assert found[1].examples == (Copy(0, "near duplicate", (0, 0)),)


def test_a_chain_of_near_copies_keeps_its_first_link_only(store: Store) -> None:
    words = MILL.split() * 6
    words = [f"{word}{number}" for number, word in enumerate(words)]
    chain = [" ".join(words[start : start + 80]) for start in range(0, 25, 4)]
    found = dropped(store, [[document(str(number), text) for number, text in enumerate(chain)]], ALL)
    assert reasons(found) == [[None] + ["near duplicate"] * (len(chain) - 1)]


def test_texts_without_words_and_empty_texts_are_copies_of_their_equals_only(store: Store) -> None:
    texts = ["...", "!!!", "", "...", "yes", "no", "Yes!"]
    found = dropped(store, [[document(str(number), text) for number, text in enumerate(texts)]], ALL)
    assert reasons(found) == [[None, None, None, "duplicate text", None, None, "near duplicate"]]


def test_a_line_is_kept_by_its_first_copies_and_counted_once_a_document(store: Store) -> None:
    first, later = "All rights reserved\none\nall RIGHTS  reserved", "All rights reserved\n\nx\nAll rights reserved"
    documents = [document("a", first), document("b", later + " "), document("c", later), document("d", "no notice")]
    found = dropped(store, [documents[:1], documents[1:]], Deduplication(exact=False, lines=ALL.lines))
    assert reasons(found) == [[None], [None, None, None]]
    assert lines(found) == [[[]], [[], [0, 3], []]]
    assert without_lines(later, [0, 3]) == "x"


def test_lines_taken_out_leave_one_empty_line_at_most() -> None:
    assert without_lines("a\n\nb\n\nc", [2]) == "a\n\nc"
    assert without_lines("a\nb", [0, 1]) == ""
    assert without_lines("a\nb", []) == "a\nb"


def test_within_groups_copies_of_other_groups_stay_but_ids_are_unique_everywhere(store: Store) -> None:
    line = "Nothing abnormal was seen"
    documents = [
        document("a", f"{line}\none", "p1"),
        document("b", f"{line}\none", "p2"),
        document("c", f"{line}\ntwo", "p1"),
        document("d", f"{line}\none", "p1"),
        document("a", f"{line}\nthree", "p3"),
    ]
    found = dropped(store, [documents], ALL.model_copy(update={"within": "group"}))
    assert reasons(found) == [[None, None, None, "duplicate text", "duplicate id"]]
    assert lines(found) == [[[], [], [], [0], []]]


def test_what_is_off_drops_nothing(store: Store) -> None:
    documents = [document("a", MILL), document("b", MILL)]
    assert reasons(dropped(store, [documents], Deduplication(exact=False))) == [[None, None]]
    assert kinds_of(Deduplication(exact=False)) == ["id"]


def test_groups_of_equal_texts_are_counted_by_their_size(store: Store) -> None:
    texts = ["once", *["twice"] * 2, *["four"] * 4, *["six"] * 6, *["again"] * 2]
    documents = [document(str(number), text) for number, text in enumerate(texts)]
    parts = [part_of(store, documents[:8], EXACT), part_of(store, documents[8:], EXACT)]
    for range_keys in (3, 1000):
        groups = repeated(parts, EXACT, store=store, range_keys=range_keys).groups
        assert groups == {"2": 2, "3-5": 1, "6-10": 1, "11-100": 0, "over 100": 0}


WORDS = st.sampled_from(["a", "b", "c d", "C  D", "mill", "river", "的"])
DOCUMENTS = st.builds(
    document,
    st.sampled_from("abcdefghijklmnopqrstuvwxyz"),
    st.lists(WORDS, max_size=4).map("\n".join),
    st.sampled_from("xyz"),
)
PARTS = st.lists(st.lists(DOCUMENTS, max_size=6), min_size=1, max_size=4)
CONFIGS = st.builds(
    Deduplication,
    exact=st.booleans(),
    near=st.sampled_from([None, NearDuplicates(shingle_words=2, bands=3, rows=1)]),
    lines=st.sampled_from([None, BoilerplateLines(copies=1, min_characters=1), ALL.lines]),
    within=st.sampled_from(["corpus", "group"]),
)


def by_hand(
    parts: list[list[Document]], config: Deduplication, near_keys: dict[tuple[int, int], list[int]]
) -> tuple[list[list[str | None]], list[list[list[int]]]]:
    """The rule in dictionaries; the keys of near copies are given."""
    seen, holders = set[tuple[object, ...]](), defaultdict[tuple[str, str], set[tuple[int, int]]](set)
    reasons: list[list[str | None]] = []
    taken: list[list[list[int]]] = []
    for number, documents in enumerate(parts):
        reasons.append([])
        taken.append([])
        for row, each in enumerate(documents):
            group = each.group if config.within == "group" else ""
            keys: dict[str, list[tuple[object, ...]]] = {"duplicate id": [("id", each.id)]}
            if config.exact:
                keys["duplicate text"] = [("text", group, duplicate_key(each.text))]
            if config.near:
                keys["near duplicate"] = [("near", key) for key in near_keys[number, row]]
            reasons[-1].append(next((why for why, own in keys.items() if seen & set(own)), None))
            seen |= {key for own in keys.values() for key in own}
            taken[-1].append([])
            for place, line in enumerate(each.text.split("\n") if config.lines else []):
                held = holders[group, duplicate_key(line)]
                assert config.lines
                if len(duplicate_key(line)) < config.lines.min_characters:
                    continue
                held.add((number, row))
                if len(held) > config.lines.copies:
                    taken[-1][-1].append(place)
    return reasons, taken


def near_keys_of(made: list[Part], config: Deduplication, store: Store) -> dict[tuple[int, int], list[int]]:
    found = defaultdict[tuple[int, int], list[int]](list)
    for number, part in enumerate(made):
        for entry in part.files:
            if entry.path == keys_path("near"):
                table = pa.ipc.open_file(pa.memory_map(str(store.blob(entry)))).read_all()
                for key, row in zip(table["key"].to_pylist(), table["row"].to_pylist()):
                    found[number, row].append(key)
    return found


def fresh_store(folder: str) -> Store:
    return open_store(Settings.from_environment({"BERTMILL_HOME": folder}))


@settings(deadline=None, max_examples=40)
@given(PARTS, CONFIGS, st.sampled_from([1, 2, 5, 1 << 21]))
def test_what_goes_is_what_the_rule_says_under_any_ranges(
    parts: list[list[Document]], config: Deduplication, range_keys: int
) -> None:
    with TemporaryDirectory() as folder:
        store = fresh_store(folder)
        made = [part_of(store, documents, config) for documents in parts]
        expected = by_hand(parts, config, near_keys_of(made, config, store))
        found = dropped(store, parts, config, range_keys=range_keys)
        assert (reasons(found), lines(found)) == expected


@settings(deadline=None, max_examples=25)
@given(PARTS, PARTS, CONFIGS)
def test_later_parts_never_change_what_goes_of_earlier_ones(
    earlier: list[list[Document]], later: list[list[Document]], config: Deduplication
) -> None:
    with TemporaryDirectory() as folder:
        store = fresh_store(folder)
        before = dropped(store, earlier, config)
        after = dropped(store, earlier + later, config)
        assert reasons(after)[: len(earlier)] == reasons(before)
        assert lines(after)[: len(earlier)] == lines(before)
        assert [each.examples for each in after[: len(earlier)]] == [each.examples for each in before]


def bytes_of(folder: Path, range_keys: int, map: Map) -> tuple[list[str], list[bytes]]:
    store = fresh_store(str(folder))
    parts = [
        [document(f"{number * 7 % 31}", f"{MILL} {number % 5}\nAll rights reserved\n{number % 3}") for number in chunk]
        for chunk in (range(20), range(20, 21), range(0), range(21, 60))
    ]
    made = [part_of(store, documents, ALL) for documents in parts]
    repeats = repeated(made, ALL, store=store, map=map, range_keys=range_keys)
    found = map(partial(dropped_of, repeats=repeats, store=store), range(len(parts)))
    return [repeats.index.sha256, str(repeats.groups)], [
        each.codes.tobytes() + each.line_rows.tobytes() + each.line_numbers.tobytes() + str(each.examples).encode()
        for each in found
    ]


def test_neither_workers_nor_ranges_change_a_byte(tmp_path: Path) -> None:
    made = {}
    for name in MAPS:
        with map_named(name) as mapped:
            made[name] = bytes_of(tmp_path / name, 16, mapped)
    assert made["builtin"] == made["backwards"] == made["processes"]
    assert bytes_of(tmp_path / "one", 1 << 21, map)[1] == made["builtin"][1]


def test_runs_and_batches_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [document(str(number), f"{MILL} {number % 7}\n{number}\nAll rights reserved") for number in range(50)]
    whole = dropped(store, [documents], ALL)
    monkeypatch.setattr(keys_module, "RUN_KEYS", 5)
    monkeypatch.setattr(keys_module, "BATCH_CHARACTERS", 300)
    with TemporaryDirectory() as folder:
        small = dropped(fresh_store(folder), [documents], ALL)
    assert (reasons(small), lines(small)) == (reasons(whole), lines(whole))
    assert whole[0].counts["near duplicate"] > 30


def test_keys_are_sorted_runs_and_rows_count_up(store: Store) -> None:
    part = part_of(store, [document(str(number), f"{MILL}\n{number}") for number in range(9)], ALL)
    tables = {e.path: pa.ipc.open_file(pa.memory_map(str(store.blob(e)))).read_all() for e in part.files}
    assert sorted(tables) == [keys_path(kind) for kind in ("id", "lines", "near", "text")]
    assert {entry.path: entry.rows for entry in part.files} == {path: len(table) for path, table in tables.items()}
    for path, table in tables.items():
        keys = list(zip(table["key"].to_pylist(), table["row"].to_pylist()))
        assert keys == sorted(keys), path
    assert len(tables[keys_path("near")]) == 9 * 14
    assert sorted(tables[keys_path("id")]["row"].to_pylist()) == list(range(9))


def test_ranges_part_the_keys_and_none_holds_many_more_than_asked(store: Store) -> None:
    keys = np.sort(np.random.default_rng(1).integers(0, 2**64, 10_000, np.uint64))
    keys = np.concatenate([np.array([0], np.uint64), keys, np.array([2**64 - 1], np.uint64)])
    for bits in (0, 1, 4):
        cuts = [KeyRange("text", number, bits).cut(keys) for number in range(1 << bits)]
        assert [cut.start for cut in cuts] == [0, *(cut.stop for cut in cuts[:-1])]
        assert cuts[-1].stop == len(keys)
        assert all(cut.stop - cut.start < 1.3 * len(keys) / (1 << bits) for cut in cuts)


def test_a_range_is_remembered_and_a_second_pass_maps_nothing_anew(store: Store) -> None:
    made = [part_of(store, [document(str(n), f"text {n % 3}") for n in range(9)], EXACT)]
    asked: list[KeyRange] = []

    def counting(fn, items):  # type: ignore[no-untyped-def]
        asked.extend(items := list(items))
        return map(fn, items)

    first = repeated(made, EXACT, store=store, map=counting, range_keys=4)
    assert len(asked) == 8
    before = sorted(key.key for key in store.backend.list(""))
    assert repeated(made, EXACT, store=store, range_keys=4) == first
    assert sorted(key.key for key in store.backend.list("")) == before


def test_reasons_are_in_the_words_of_a_person() -> None:
    assert list(REASONS.values()) == ["duplicate id", "duplicate text", "near duplicate"]


def peak_of(store: Store, parts: int) -> int:
    """Bytes held at most while so many parts of 4,000 documents each are compared, in ranges of at most 2,000 keys."""
    made = [
        part_of(
            store, [document(f"{number}-{row}", f"{row % 7} copies\nAll rights reserved") for row in range(4000)], ALL
        )
        for number in range(parts)
    ]
    tracemalloc.start()
    repeated(made, ALL, store=store, range_keys=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_doesnt_grow_with_the_documents(store: Store) -> None:
    assert peak_of(store, 8) < 1.5 * peak_of(store, 2) + 500_000
