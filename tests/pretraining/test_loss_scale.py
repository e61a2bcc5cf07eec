"""The loss scale of fp16 halves at an overflow, doubles after a thousand steps without, and follows from the curve."""

import random

from pipeline.pretraining.loss_scale import FIRST, LEAST, WINDOW, LossScale


def test_it_starts_at_two_to_the_sixteenth_and_each_overflow_halves_it() -> None:
    assert [LossScale.after([True] * overflows).value for overflows in range(4)] == [65_536, 32_768, 16_384, 8_192]


def test_it_doubles_after_a_window_of_steps_without_an_overflow_and_counts_anew() -> None:
    assert LossScale.after([False] * (WINDOW - 1)).value == FIRST
    assert LossScale.after([False] * WINDOW) == LossScale(2 * FIRST, 0)
    assert LossScale.after([False] * 2 * WINDOW).value == 4 * FIRST
    assert LossScale.after([False] * (WINDOW - 1) + [True] + [False] * (WINDOW - 1)).value == FIRST / 2


def test_it_never_falls_below_its_least() -> None:
    assert LossScale.after([True] * 100) == LossScale(LEAST, 0)


def test_what_is_left_of_all_steps_is_what_the_first_left_and_then_the_others() -> None:
    draw = random.Random(1)
    skipped = [draw.random() < 0.002 for _ in range(5 * WINDOW)]
    scale = LossScale.after(skipped[:2_345])
    for each in skipped[2_345:]:
        scale.take(each)
    assert scale == LossScale.after(skipped)
