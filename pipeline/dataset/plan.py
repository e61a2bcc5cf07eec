"""What a training sees, phase by phase: of which datasets, how many steps, of how many samples, how long.

A step's number says its phase, so there is nothing to keep but the number. Phases of short and then long samples
(Devlin et al. 2019: nine tenths of the steps at 128, the rest at 512) may come from one dataset, whose rows are cut
short for the first, or from two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pipeline.dataset.batches import Batch, step_batches
from pipeline.dataset.dealing import Capacity
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Chosen, Steps, check_mixed
from pipeline.errors import ConfigError

SHORTEST = 8
"""Tokens, as of `DatasetConfig.max_seq_length`."""
EPOCHS_A_PHASE = 1 << 20
"""Epochs are counted apart, so that a phase has an order and masks of its own."""


@dataclass(frozen=True)
class Phase:
    """Some steps of the same kind."""

    mixed: tuple[tuple[Samples, float], ...]
    """Datasets and their weights."""
    steps: int
    train_batch_size: int
    micro_batch_size: int
    max_seq_length: int | None = None
    """Rows that are longer are cut: a pair keeps the end of A and the start of B. None: none is."""


class Plan:
    """Phases, one after the other.

    Raises ConfigError where datasets of any of them have different vocabularies or kinds of pairs, a weight isn't
    positive, a length has no room for a pair, or there is nothing to train on.
    """

    def __init__(self, phases: Sequence[Phase], *, seed: int, has_fixed_buffers: bool, world: int) -> None:
        _check_phases(phases)
        self.phases = tuple(phases)
        self._ends = list(accumulate(phase.steps for phase in phases))
        self._world = world
        self.steps = [
            Steps(
                phase.mixed,
                train_batch_size=phase.train_batch_size,
                seed=seed,
                longest=phase.max_seq_length,
                first_epoch=number * EPOCHS_A_PHASE,
            )
            for number, phase in enumerate(phases)
        ]
        self.capacities = [
            Capacity.of(steps, micro_batch_size=phase.micro_batch_size, world=world) if has_fixed_buffers else None
            for steps, phase in zip(self.steps, phases, strict=True)
        ]

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def pairs(self) -> str:
        """What second segments are, in all phases alike."""
        return self.phases[0].mixed[0][0].config.pairs

    def phase_of(self, step: int) -> tuple[int, int]:
        """(the phase, from 0; the step's number in it) of a step; IndexError beyond the last."""
        number = next((at for at, end in enumerate(self._ends) if step < end), None)
        if number is None or step < 0:
            raise IndexError(f"The plan has {len(self)} steps; step {step} is none of them.")
        return number, step - (self._ends[number] - self.phases[number].steps)

    def chosen(self, step: int) -> Chosen:
        """The samples of a step; nothing is read."""
        number, own = self.phase_of(step)
        return self.steps[number].looked_at(own)

    def batches(self, step: int, rank: int) -> list[Batch]:
        """A rank's micro-batches of a step; IndexError beyond the last."""
        number, own = self.phase_of(step)
        return step_batches(
            self.steps[number],
            own,
            micro_batch_size=self.phases[number].micro_batch_size,
            rank=rank,
            world=self._world,
            capacity=self.capacities[number],
        )


def _check_phases(phases: Sequence[Phase]) -> None:
    """ConfigError for phases that can't be trained."""
    if not phases:
        raise ConfigError("A plan needs a phase; there is none.")
    check_mixed([each for phase in phases for each in phase.mixed])
    for phase in phases:
        if not phase.mixed:
            raise ConfigError("A phase needs a dataset; there is none.")
        if min(phase.steps, phase.train_batch_size) < 1:
            raise ConfigError(
                f"A phase has {phase.steps} steps of {phase.train_batch_size} samples: give 1 or more of both."
            )
        if phase.max_seq_length is not None and phase.max_seq_length < SHORTEST:
            raise ConfigError(
                f"A phase has max_seq_length {phase.max_seq_length}: too short for a pair. Give {SHORTEST} or more."
            )
