"""What a step's batches hold, in one digest; run as a module, it tells those of a stored dataset as it reads them."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from pipeline.dataset.batches import Batch, step_batches
from pipeline.dataset.loading import steps_ahead
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Steps
from pipeline.settings import Settings
from pipeline.store import open_store

BATCH, MICRO_BATCH, SEED = 24, 4, 12_345


def steps_over(samples: Samples) -> Steps:
    return Steps([(samples, 1)], train_batch_size=BATCH, seed=SEED)


def training_batches(
    samples: Samples, step: int, *, train_batch_size: int, micro_batch_size: int, seed: int, rank: int, world: int
) -> list[Batch]:
    """The micro-batches of optimizer step `step` (from 0) over one dataset for one rank."""
    steps = Steps([(samples, 1.0)], train_batch_size=train_batch_size, seed=seed)
    return step_batches(steps, step, micro_batch_size=micro_batch_size, rank=rank, world=world)


def digest_of(batches: Sequence[Batch]) -> str:
    """Of all samples with their masks, in whatever order and batches they come."""
    found = []
    for batch in batches:
        ends = np.cumsum(batch.lengths)
        masks = np.searchsorted(batch.masked_positions, [0, *ends])
        for at, (end, length) in enumerate(zip(ends.tolist(), batch.lengths.tolist(), strict=True)):
            own, held = slice(end - length, end), slice(*masks[at : at + 2])
            columns = (
                batch.indices[at : at + 1],
                batch.next_sentence_label[at : at + 1],
                batch.input_ids[own],
                batch.token_type_ids[own],
                batch.position_ids[own],
                batch.masked_positions[held] - (end - length),
                batch.masked_lm_labels[held],
            )
            found.append(b"|".join(column.astype(np.int64).tobytes() for column in columns))
    return hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in sorted(found))).hexdigest()


def step_of_all(steps: Steps, world: int) -> Callable[[int], list[Batch]]:
    """Makes a step's batches of all ranks."""

    def make(step: int) -> list[Batch]:
        ranks = (
            step_batches(steps, step, micro_batch_size=MICRO_BATCH, rank=rank, world=world) for rank in range(world)
        )
        return [batch for rank in ranks for batch in rank]

    return make


if __name__ == "__main__":
    dataset, start, workers = sys.argv[1:]
    store = open_store(Settings.from_environment())
    make = step_of_all(steps_over(Samples(store, store.resolve(dataset))), world=1)
    with closing(steps_ahead(make, int(start), 1_000_000, int(workers))) as made:
        for step, batches in enumerate(made, int(start)):
            sys.stdout.write(f"{step} {digest_of(batches)}\n")
            sys.stdout.flush()
