"""What a training will take, before anything runs: steps, tokens, disk, memory, hours, cost (`bertmill plan`).

Each figure is counted where the dataset is there, measured where this machine can (rehearsal.py), and else worked out
of the preset under assumptions that stand beside it. Hours are those of the passes and the optimizer: traffic between
devices, validation and checkpoints are not in them.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from pipeline.config import PhaseConfig, Preset, PretrainingConfig
from pipeline.pretraining.phases import (
    batch_size_of,
    micro_batch_size_of,
    phases_of,
    settled,
    steps_for_tokens,
    steps_of,
    with_steps,
)
from pipeline.pretraining.planning.flops import flops_per_token
from pipeline.pretraining.planning.lengths import Lengths, assumed_lengths, counted_lengths, mixed_lengths
from pipeline.pretraining.planning.memory import CHECKPOINT_BYTES, State, dealt_size, parameter_count, state_bytes
from pipeline.pretraining.systems import systems_config, zero_stage
from pipeline.store import Artifact, Store

CHARACTERS_A_TOKEN = {"zh": 1.1, "ja": 1.1}
CHARACTERS_A_TOKEN_ELSE = 4.5
TOKENS_A_CORPUS_TOKEN = {"nsp": 1.35, "sop": 1.05, "none": 1.05}
"""Random second segments are text that stands in a sample once more; and there are [CLS] and [SEP]."""
ROW_BYTES = 16
"""Of a sample beside its tokens."""
EXPORT_BYTES = 4


@dataclass(frozen=True)
class Data:
    """What is known of the dataset."""

    lengths: Lengths
    vocabulary_size: int
    rows: float | None
    bytes: float | None
    known_from: str
    """Where these come from."""


@dataclass(frozen=True)
class PhasePlan:
    """A phase, counted."""

    phase: PhaseConfig
    steps: int
    train_batch_size: int
    micro_batch_size: int
    """What a step is really dealt into, at most."""
    lengths: Lengths
    flops_a_token: float

    @property
    def samples(self) -> int:
        return self.steps * self.train_batch_size

    @property
    def tokens(self) -> float:
        return self.samples * self.lengths.mean

    @property
    def own_samples(self) -> float:
        """Those of the training's own dataset."""
        weights = {each.dataset: each.weight for each in self.phase.mixture}
        return self.samples * weights.get(None, 0.0) / sum(weights.values())


@dataclass(frozen=True)
class TrainingPlan:
    """All that can be said without a measurement."""

    config: PretrainingConfig
    """With its budget in steps."""
    data: Data
    phases: tuple[PhasePlan, ...]
    devices: int
    predicted_share: float

    @cached_property
    def parameters(self) -> int:
        return parameter_count(self.config, self.data.vocabulary_size)

    @property
    def state(self) -> State:
        return state_bytes(self.parameters, self.config, systems_config(self.config.deepspeed), self.devices)

    @property
    def zero_stage(self) -> int:
        return zero_stage(systems_config(self.config.deepspeed))

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def samples(self) -> int:
        return sum(phase.samples for phase in self.phases)

    @property
    def tokens(self) -> float:
        return sum(phase.tokens for phase in self.phases)

    @property
    def flops(self) -> float:
        return sum(phase.tokens * phase.flops_a_token for phase in self.phases)

    @property
    def epochs(self) -> float | None:
        """Of the training's own dataset."""
        return sum(phase.own_samples for phase in self.phases) / self.data.rows if self.data.rows else None

    @property
    def checkpoints(self) -> int:
        """At once: the last ones, one on its way, and those of `keep_every`."""
        config = self.config
        of_every = self.steps // math.lcm(config.checkpoint_every, config.keep_every) if config.keep_every else 0
        return config.keep_checkpoints + 1 + of_every

    @property
    def checkpoint_bytes(self) -> float:
        return float(self.parameters * (self.checkpoints * CHECKPOINT_BYTES + EXPORT_BYTES))


def plan_training(
    preset: Preset, store: Store, *, dataset: Artifact | None, corpus: Artifact | None = None, devices: int = 1
) -> TrainingPlan:
    """Plan the preset's training on a dataset; without one, on what it will be as the preset describes it, of a corpus.

    Raises ConfigError for what would refuse the training itself.
    """
    from pipeline.pretraining.schedule import schedule_of

    config = preset.pretraining
    schedule_of(config)
    data = _assumed(preset, corpus, store) if dataset is None else _counted(dataset, store)
    if dataset is not None:
        config = settled(config, dataset, store)
    lengths = [mixed_lengths(phase, data.lengths, store) for phase in phases_of(config)]
    if config.max_tokens is not None:
        config = with_steps(config, steps_for_tokens(config, [each.mean for each in lengths]))
    share = preset.dataset.masked_lm_prob
    if dataset is not None:
        share = store.manifest(dataset).config["masked_lm_prob"]
    phases = tuple(
        PhasePlan(
            phase,
            steps,
            batch_size_of(config, phase),
            dealt_size(batch_size_of(config, phase), micro_batch_size_of(config, phase), devices),
            mix,
            flops_per_token(config, data.vocabulary_size, mix, share),
        )
        for phase, steps, mix in zip(phases_of(config), steps_of(config), lengths, strict=True)
    )
    return TrainingPlan(config, data, phases, devices, share)


def _counted(dataset: Artifact, store: Store) -> Data:
    manifest = store.manifest(dataset)
    return Data(
        lengths=counted_lengths(dataset, store),
        vocabulary_size=manifest.totals["vocabulary_size"],
        rows=manifest.totals["rows"]["train"],
        bytes=sum(entry.size for entry in manifest.files),
        known_from=str(dataset),
    )


def _assumed(preset: Preset, corpus: Artifact | None, store: Store) -> Data:
    """From the corpus' characters, where there is one; from the preset alone, where there isn't."""
    config, size = preset.dataset, preset.vocabulary.size
    lengths = assumed_lengths(config)
    full = f"samples {lengths.mean / config.max_seq_length:.0%} full"
    if corpus is None:
        return Data(lengths, size, None, None, f"assumed, with no corpus yet: {full}")
    characters = store.manifest(corpus).totals["characters"]
    a_token = CHARACTERS_A_TOKEN.get(preset.corpus.lang, CHARACTERS_A_TOKEN_ELSE)
    growth = TOKENS_A_CORPUS_TOKEN[config.pairs]
    train, heldout = (characters[split] / a_token * growth for split in ("train", "heldout"))
    train *= config.dupe_factor
    width = (2 if size <= 1 << 16 else 4) + 1 / 8
    held = (train + heldout) * (width + ROW_BYTES / lengths.mean)
    told = f"assumed of {corpus}: {a_token:g} characters a token, {full}"
    return Data(lengths, size, train / lengths.mean, held, told)
