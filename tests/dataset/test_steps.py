"""Steps are alike and dealt evenly, fixed buffers hold them with little to spare, and mixing counts exactly."""

from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.dealing import Capacity, dealt
from pipeline.dataset.order import Order
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import PATTERN, Chosen, Steps, mixed_positions, pattern_of
from pipeline.errors import ConfigError
from pipeline.store import Store
from pipeline.vocabulary.tokenizer import SPECIALS
from tests.dataset.byhand import vocabulary_of
from tests.dataset.stored import rows_of, stored, stored_lengths

SEED = 12_345
WORLDS = (1, 2, 3, 4, 8)
LENGTHS = st.lists(st.integers(3, 512), min_size=1, max_size=90)
WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6)


def steps_over(*mixed: tuple[Samples, float], batch: int, longest: int | None = None) -> Steps:
    return Steps(mixed, train_batch_size=batch, seed=SEED, longest=longest)


def chosen_of(lengths: list[int]) -> Chosen:
    """Samples of those lengths, longest first."""
    longest_first = np.array(sorted(lengths, reverse=True), np.int64)
    numbers = np.arange(len(lengths))
    return Chosen(numbers * 0, numbers * 0, numbers, longest_first, np.maximum(1, longest_first // 7))


def realistic(count: int, longest: int) -> npt.NDArray[np.int64]:
    """Nine tenths nearly full, whole sentences up to the target; a tenth of any length; ends of documents."""
    draw = np.random.default_rng(count + longest)
    full = longest - np.minimum(draw.geometric(0.08, count), longest - 8)
    kind = draw.random(count)
    lengths = np.where(kind < 0.8, full, draw.integers(5, longest + 1, count))
    return np.where(kind > 0.97, longest, lengths).astype(np.int64)


def names(chosen: Chosen) -> list[tuple[int, int, int]]:
    return list(zip(chosen.datasets.tolist(), chosen.epochs.tolist(), chosen.rows.tolist()))


# Steps


@pytest.mark.parametrize("batch", [1, 7, 64, 700, 2_000])
def test_a_group_of_steps_holds_its_stretch_of_the_order_each_sample_once(store: Store, batch: int) -> None:
    samples = Samples(store, stored_lengths(store, realistic(1_500, 128)))
    steps = steps_over((samples, 1.0), batch=batch)
    a_group = steps.together * batch
    assert steps.together == max(1, 1_500 // 8 // batch)
    for group in (0, 1, 1_500 // a_group):  # the last crosses into the next epoch
        given = chain.from_iterable(names(steps.step(group * steps.together + seat)) for seat in range(steps.together))
        positions = group * a_group + np.arange(a_group)
        epochs, rows = Order(samples.sizes, SEED).rows(positions)
        assert sorted(given) == sorted(zip([0] * a_group, epochs.tolist(), rows.tolist()))


def test_an_epochs_samples_come_once_each_before_the_group_that_crosses_its_border_ends(store: Store) -> None:
    samples = Samples(store, stored_lengths(store, realistic(1_000, 128)))
    steps = steps_over((samples, 1.0), batch=30)
    a_group = steps.together * 30
    before = 1_000 // a_group * steps.together
    seen = list(chain.from_iterable(names(steps.step(step)) for step in range(before + steps.together)))
    assert len(set(seen)) == len(seen)
    assert all(epoch == 0 for _, epoch, _ in seen[: before * 30])
    assert sorted(row for _, epoch, row in seen if epoch == 0) == list(range(1_000))


@pytest.mark.parametrize("longest", [128, 512])
def test_steps_of_a_group_have_nearly_equal_totals(store: Store, longest: int) -> None:
    samples = Samples(store, stored_lengths(store, realistic(300_000, longest), max_seq_length=longest))
    steps = steps_over((samples, 1.0), batch=256)
    assert steps.together == 128
    totals = np.array([steps.step(step).lengths.sum() for step in range(2 * 128)]).reshape(2, 128)
    assert (np.ptp(totals, axis=1) <= longest).all(), "a sample's length"
    assert np.ptp(totals) < 0.01 * totals.mean(), "nor do groups differ much"


def test_a_step_is_longest_first_and_equal_ones_by_position(store: Store) -> None:
    samples = Samples(store, stored_lengths(store, np.array([9, 20, 9, 20, 9, 20, 9, 20])))
    steps = steps_over((samples, 1.0), batch=8)
    chosen = steps.step(0)
    assert chosen.lengths.tolist() == [20] * 4 + [9] * 4
    drawn = Order(samples.sizes, SEED).rows(np.arange(8))[1].tolist()
    assert chosen.rows.tolist() == [r for r in drawn if r % 2] + [r for r in drawn if r % 2 == 0]


# Dealing


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(1, 9), st.sampled_from(WORLDS))
def test_hands_hold_about_as_many_tokens_as_many_on_each_rank(lengths: list[int], micro: int, world: int) -> None:
    chosen = chosen_of(lengths)
    hands = dealt(chosen, micro_batch_size=micro, world=world)
    assert sorted(np.concatenate(hands).tolist()) == list(range(len(lengths)))
    assert len(hands) == world * -(-len(lengths) // (micro * world))
    tokens = [int(chosen.lengths[hand].sum()) for hand in hands]
    lasts = [int(chosen.lengths[hand[-1]]) for hand in hands if len(hand)]
    for held, last in zip([each for each, hand in zip(tokens, hands) if len(hand)], lasts):
        assert held - last <= min(tokens), "its last sample was given to the hand that had least"


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(1, 9), st.sampled_from(WORLDS), st.integers(0, 600), st.integers(0, 9))
def test_with_a_capacity_rounds_are_added_until_each_hand_fits(
    lengths: list[int], micro: int, world: int, spare: int, sequences: int
) -> None:
    chosen = chosen_of(lengths)
    tokens = 512 + spare
    capacity = Capacity(tokens, 1 + sequences + -(-tokens // 512), max(74, tokens // 8), 512)
    hands = dealt(chosen, micro_batch_size=micro, world=world, capacity=capacity)
    assert sorted(np.concatenate(hands).tolist()) == list(range(len(lengths)))
    assert len(hands) % world == 0
    for hand in hands:
        assert chosen.lengths[hand].sum() <= tokens
        assert chosen.predictions[hand].sum() <= capacity.predictions
        left = tokens - int(chosen.lengths[hand].sum())
        assert len(hand) + -(-left // 512) <= capacity.sequences


# Buffers


@pytest.mark.parametrize(("batch", "micro"), [(256, 16), (256, 32), (1_024, 64), (4_096, 64)])
@pytest.mark.parametrize("longest", [128, 512])
def test_a_fixed_buffers_tail_is_under_3_percent(store: Store, longest: int, batch: int, micro: int) -> None:
    samples = Samples(store, stored_lengths(store, realistic(200_000, longest), max_seq_length=longest))
    steps = steps_over((samples, 1.0), batch=batch)
    looked_at = [at * (200_000 // batch) // 11 + 1 for at in range(12)]
    for world in WORLDS:
        if micro * world > batch:
            continue
        capacity = Capacity.of(steps, micro_batch_size=micro, world=world)
        held, room, turns = 0, 0, set[int]()
        for step in looked_at:
            chosen = steps.step(step)
            hands = dealt(chosen, micro_batch_size=micro, world=world, capacity=capacity)
            held += int(chosen.lengths.sum())
            room += len(hands) * capacity.tokens
            turns.add(len(hands) // world)
        assert 1 - held / room < 0.03, (world, capacity, turns)


@pytest.mark.parametrize("masks", ["each_epoch", "stored"])
def test_any_one_sample_fits_a_buffer_though_those_looked_at_were_short(store: Store, masks: str) -> None:
    lengths = np.full(4_000, 10)
    lengths[17] = 128
    samples = Samples(store, stored_lengths(store, lengths, masks=masks))
    steps = steps_over((samples, 1.0), batch=1, longest=64)
    capacity = Capacity.of(steps, micro_batch_size=1, world=1)
    chosen = chosen_of([64])._replace(predictions=samples.most_predictions(np.array([128]), np.array([64])))
    assert chosen.predictions.tolist() == [{"each_epoch": 10, "stored": 19}[masks]]
    assert capacity.holds(chosen)


# Mixing


def test_a_pattern_is_interleaved_worked_by_hand() -> None:
    assert pattern_of([1]).tolist() == [0] * PATTERN
    assert pattern_of([2, 2]).tolist() == [0, 1] * (PATTERN // 2)
    assert pattern_of([0.75, 0.25]).tolist() == [0, 0, 1, 0] * (PATTERN // 4)


@settings(max_examples=100, deadline=None)
@given(WEIGHTS)
def test_a_patterns_counts_are_the_weights_and_any_stretch_of_it_is_in_proportion(weights: list[float]) -> None:
    pattern = pattern_of(weights)
    shares = np.array(weights) / sum(weights)
    counts = np.bincount(pattern, minlength=len(weights))
    assert counts.sum() == PATTERN
    assert (counts >= 1).all()
    assert (np.abs(counts - shares * PATTERN) <= len(weights)).all()
    for number, count in enumerate(counts):
        had = np.cumsum(pattern == number)
        due = np.arange(1, PATTERN + 1) * count / PATTERN
        assert np.abs(had - due).max() <= len(weights)


@settings(max_examples=50, deadline=None)
@given(WEIGHTS, st.integers(0, 10**12), st.integers(1, 9_000))
def test_each_dataset_is_read_in_its_own_order_without_a_gap(weights: list[float], start: int, count: int) -> None:
    pattern = pattern_of(weights)
    datasets, own = mixed_positions(pattern, start + np.arange(count))
    before, _ = np.divmod(start, PATTERN)
    for number in range(len(weights)):
        mine = own[datasets == number]
        skipped = np.count_nonzero(pattern[: start % PATTERN] == number)
        first = before * np.count_nonzero(pattern == number) + skipped
        assert mine.tolist() == list(range(first, first + len(mine)))


def test_a_mix_has_each_dataset_in_its_weight_and_each_through_its_own_epochs(store: Store) -> None:
    long, short = (
        Samples(store, stored_lengths(store, realistic(size, 128), name=name))
        for name, size in (("long", 9_000), ("short", 1_000))
    )
    steps = steps_over((long, 3), (short, 1), batch=64)
    seen = list(chain.from_iterable(names(steps.step(step)) for step in range(PATTERN * 2 // 64 * steps.together)))
    counts = np.bincount([dataset for dataset, _, _ in seen])
    assert counts.tolist() == [len(seen) * 3 // 4, len(seen) // 4]
    assert len(set(seen)) == len(seen)
    for number, size in enumerate((9_000, 1_000)):
        epochs = np.bincount([epoch for dataset, epoch, _ in seen if dataset == number])
        assert (epochs[:-1] == size).all()


@pytest.mark.parametrize("weight", [0, -1.5, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused(store: Store, weight: float) -> None:
    samples = Samples(store, stored(store, [rows_of([10] * 9)]))
    with pytest.raises(
        ConfigError, match=r"^dataset/by-hand@\w+ is mixed in with the weight .*; give a number above 0"
    ):
        steps_over((samples, 1.0), (samples, weight), batch=4)


def test_datasets_of_other_vocabularies_or_pairs_are_refused(store: Store) -> None:
    vocabularies = [vocabulary_of(store, [*SPECIALS, *map(str, range(size))]) for size in (30, 31)]
    first, other = (
        Samples(store, stored(store, [rows_of([10] * 9)], vocabulary=each, name=name))
        for name, each in zip(("first", "other"), vocabularies)
    )
    unpaired = Samples(
        store,
        stored(store, [rows_of([10] * 9, pairs="none")], vocabulary=vocabularies[0], name="unpaired", pairs="none"),
    )
    with pytest.raises(ConfigError, match=r"^dataset/other@\w+ was made with another vocabulary than dataset/first@"):
        steps_over((first, 1), (other, 1), batch=4)
    with pytest.raises(ConfigError, match=r"^dataset/unpaired@\w+ has pairs = 'none', dataset/first@\w+ 'nsp'"):
        steps_over((first, 1), (unpaired, 1), batch=4)
