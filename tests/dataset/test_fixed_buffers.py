"""What fills a buffer up to its size has no weight: losses and gradients are those of the samples alone."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch, filled, step_batches
from pipeline.dataset.dealing import Capacity
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Steps
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.store import Store
from tests.dataset.stored import SIZE, rows_of, stored, with_masks

CPU = torch.device("cpu")
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def steps_over(store: Store, longest: int | None = None, **config: object) -> Steps:
    lengths = np.random.default_rng(1).integers(10, 129, 400)
    samples = Samples(store, stored(store, [rows_of(lengths)], **config))
    return Steps([(samples, 1)], train_batch_size=24, seed=3, longest=longest)


def test_measuring_a_buffer_fetches_no_file_and_a_group_of_steps_asks_once_for_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[object]()
    monkeypatch.setattr(Samples, "fetch_ahead", lambda _, files: asked.append(files))
    steps = steps_over(store)
    Capacity.of(steps, micro_batch_size=4, world=2)
    assert asked == []
    for step in range(2 * steps.together):
        step_batches(steps, step, micro_batch_size=4, rank=0, world=2)
    assert len(asked) == 2


def model() -> BertForPreTraining:
    config = PretrainingConfig.model_validate(
        {"name": "tiny", "hidden_dropout_prob": 0, "max_position_embeddings": 128} | SMALL
    )
    return BertForPreTraining(config, SIZE).float()


def losses_and_gradients(bert: BertForPreTraining, batch: Batch) -> tuple[list[float], torch.Tensor]:
    bert.zero_grad()
    losses = bert(TensorBatch.of(batch, CPU))
    (losses.masked_lm + losses.next_sentence).backward()
    gradients = [each.grad.flatten() for each in bert.parameters() if each.grad is not None]
    return [float(each.detach()) for each in losses], torch.cat(gradients)


@pytest.mark.parametrize("longest", [None, 64])
@pytest.mark.parametrize("world", [1, 3, 40])  # of 40 ranks, some have nothing
def test_filling_leaves_losses_and_gradients_as_they_are(store: Store, world: int, longest: int | None) -> None:
    steps, bert = steps_over(store, longest), model()
    capacity = Capacity.of(steps, micro_batch_size=8, world=world)
    for rank in {0, world - 1}:
        for batch in step_batches(steps, 0, micro_batch_size=8, rank=rank, world=world):
            full = filled(batch, capacity)
            padded_losses, padded = losses_and_gradients(bert, full)
            assert (full.predictions, full.sequences, full.tokens) == (
                batch.predictions,
                batch.sequences,
                batch.tokens,
            )
            if batch.sequences == 0:
                assert padded_losses == [0, 0, 0, 0]
                assert not padded.any()
                continue
            losses, gradients = losses_and_gradients(bert, batch)
            assert padded_losses == pytest.approx(losses, rel=1e-5)
            torch.testing.assert_close(padded, gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("world", [1, 2, 8, 40])
def test_all_buffers_of_all_steps_and_ranks_have_one_shape_and_types(store: Store, world: int) -> None:
    steps = steps_over(store)
    capacity = Capacity.of(steps, micro_batch_size=4, world=world)
    shapes, counts = set(), set()
    for step in range(20):
        ranks = [
            step_batches(steps, step, micro_batch_size=4, rank=rank, world=world, capacity=capacity)
            for rank in range(world)
        ]
        assert len({len(rank) for rank in ranks}) == 1
        counts.add(sum(batch.sequences for rank in ranks for batch in rank))
        for batch in (batch for rank in ranks for batch in rank):
            arrays = [getattr(batch, field.name) for field in fields(batch)]
            shapes.add(tuple((each.shape, each.dtype.str) for each in arrays))
            assert batch.lengths.sum() == capacity.tokens
            assert batch.lengths.max() <= capacity.longest
            assert batch.position_ids.max() < capacity.longest
    assert len(shapes) == 1
    assert counts == {24}


def test_stored_masks_of_cut_samples_fit_their_buffers(store: Store) -> None:
    files = [with_masks(rows_of([128] * 200), 7)]
    samples = Samples(store, stored(store, files, masks="stored"))
    steps = Steps([(samples, 1)], train_batch_size=16, seed=3, longest=64)
    capacity = Capacity.of(steps, micro_batch_size=4, world=1)
    for step in range(10):
        for batch in step_batches(steps, step, micro_batch_size=4, rank=0, world=1, capacity=capacity):
            assert len(batch.masked_positions) == capacity.predictions
            assert batch.predictions > 0
