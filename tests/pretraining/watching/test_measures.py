"""What a line of progress says."""

import time

import pytest
import torch

from pipeline.pretraining.running import note_of
from pipeline.pretraining.watching.measures import Measures, Pace, Waited, events_of


def test_steps_are_fetched_in_order_as_means_over_the_whole_batch_and_each_once() -> None:
    measures = Measures(has_pairs=True)
    for step in range(3):
        sums = torch.tensor([10.0 * step, 4.0, 5.0, 1.0], dtype=torch.float64)
        measures.add({"step": step, "tokens": 7}, sums, torch.tensor(0.5), predictions=10, sequences=2)
    records = list(measures.fetch())
    assert [record["masked_lm_loss"] for record in records] == [0.0, 1.0, 2.0]
    assert records[2] == {
        "step": 2, "loss": 4.0, "masked_lm_loss": 2.0, "masked_lm_accuracy": 0.5, "next_sentence_loss": 2.0,
        "next_sentence_accuracy": 0.5, "gradient_norm": 0.5, "tokens": 7,
    }  # fmt: skip
    assert list(measures.fetch()) == []


def test_without_pairs_their_loss_is_none_of_the_loss() -> None:
    measures = Measures(has_pairs=False)
    measures.add({"step": 0}, torch.tensor([20.0, 8.0, 0.0, 0.0]), torch.tensor(1.0), predictions=10, sequences=2)
    (record,) = measures.fetch()
    assert (record["loss"], record["next_sentence_loss"]) == (2.0, 0.0)


def test_only_the_waiting_for_items_counts_and_it_is_told_once() -> None:
    def slow():
        for item in range(3):
            time.sleep(0.02)
            yield item

    items = Waited(slow())
    for _ in items:
        time.sleep(0.05)
    waited = items.taken()
    assert 0.06 <= waited < 0.15
    assert items.taken() == 0.0


def test_shares_are_of_the_time_and_the_peak_and_what_is_not_training_is_left_out() -> None:
    pace = Pace(tokens=900, places=1000, flops=3e9, checkpoint_s=0.5, aside_s=8.0, since=time.monotonic() - 10.0)
    told = pace.told(loader_wait_s=0.2, peak=3e9)
    assert told["tokens_per_second"] == pytest.approx(450, rel=0.05)
    assert told["peak_share"] == pytest.approx(0.5, rel=0.05)
    assert told["loader_wait_share"] == pytest.approx(0.1, rel=0.05)
    assert told["checkpoint_share"] == pytest.approx(0.25, rel=0.05)
    assert told["padding_share"] == pytest.approx(0.1)
    assert told["memory_gb"] > 0.01


def test_tensorboard_gets_numbers_alone_and_validation_under_its_own_name() -> None:
    validation = {"masked_lm_loss": 3.0, "masked_lm_loss_by_length": {"32": 2.5}}
    record = {"step": 9, "loss": 2.0, "validation": validation, "checkpoint_trouble": "a full disk"}
    assert events_of(record) == [
        ("train/loss", 2.0, 9),
        ("validation/masked_lm_loss", 3.0, 9),
        ("validation/masked_lm_loss_by_length/32", 2.5, 9),
    ]
    assert events_of({"resumed_at": 4, "device": "cpu"}) == []


def test_the_live_line_tells_loss_speed_share_and_what_a_checkpoint_waits_for() -> None:
    record = {"loss": 2.0, "tokens_per_second": 12_345.6, "peak_share": 0.53, "checkpoint_trouble": "a full disk"}
    assert note_of(record) == "loss 2.000, 12,346 tokens/s, 53% of peak, checkpoint: a full disk"
    assert "held-out masked-LM 1.500" in note_of(record | {"validation": {"masked_lm_loss": 1.5}})
