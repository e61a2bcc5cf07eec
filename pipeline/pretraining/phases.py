"""A training's phases: from a preset's shares, lengths and references to steps over datasets that are there.

A config is settled before its fingerprint is taken: references become versions, and shares of a budget of steps or
tokens whole steps. So it doesn't matter by which of them the same training was described, and from then on a step's
number says all. Costs nothing, but for a budget of tokens, which reads the datasets' lengths (2 bytes a sample).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from pipeline.config import MixedDataset, PhaseConfig, PretrainingConfig
from pipeline.errors import ConfigError, UnknownReference
from pipeline.store import Artifact, Store
from pipeline.store.artifact import fingerprint

if TYPE_CHECKING:
    from pipeline.dataset.plan import Plan
    from pipeline.dataset.samples import Samples


def settled(config: PretrainingConfig, dataset: Artifact, store: Store) -> PretrainingConfig:
    """The config as its fingerprint takes it: references to versions, the budget in steps.

    Raises ConfigError for a phase of no step or of longer samples than its datasets have, or datasets that can't be
    mixed, and UnknownReference where one names no dataset.
    """
    phases = tuple(_with_versions(phase, dataset, store) for phase in config.phases)
    config = config.model_copy(update={"phases": phases})
    check_lengths(config, dataset, store)
    check_mixtures(config, dataset, store)
    if config.max_tokens is not None:
        from pipeline.pretraining.planning.lengths import counted_lengths, mixed_lengths

        own = counted_lengths(dataset, store)
        means = [mixed_lengths(phase, own, store).mean for phase in phases_of(config)]
        return with_steps(config, steps_for_tokens(config, means))
    return with_steps(config, steps_of(config))


def phases_of(config: PretrainingConfig) -> tuple[PhaseConfig, ...]:
    """The phases, or the one that a training without any is."""
    return config.phases or (PhaseConfig(share=1.0),)


def batch_size_of(config: PretrainingConfig, phase: PhaseConfig) -> int:
    """Samples in a step of the phase."""
    return phase.train_batch_size or config.train_batch_size


def micro_batch_size_of(config: PretrainingConfig, phase: PhaseConfig) -> int:
    """Samples that a rank takes at once in the phase."""
    return phase.train_micro_batch_size_per_gpu or config.train_micro_batch_size_per_gpu


def steps_of(config: PretrainingConfig) -> tuple[int, ...]:
    """Each phase's steps of a budget in steps: shares end at the step nearest to where they would."""
    phases = phases_of(config)
    if all(phase.steps is not None for phase in phases):
        return tuple(phase.steps or 0 for phase in phases)
    shares = list(accumulate(phase.share or 0 for phase in phases))
    ends = [0, *(round(share * config.steps) for share in shares[:-1]), config.steps]
    steps = tuple(end - start for start, end in pairwise(ends))
    for number, (phase, count) in enumerate(zip(phases, steps, strict=True), 1):
        if count == 0:
            raise ConfigError(
                f"pretraining.phases: phase {number} has the share {phase.share:g} of {config.steps} steps, which is "
                f"no step. Raise pretraining.max_steps or the share, or take the phase away."
            )
    return steps


def steps_for_tokens(config: PretrainingConfig, mean_lengths: Sequence[float]) -> tuple[int, ...]:
    """Each phase's steps of a budget in tokens: the whole ones that its share pays for, by its samples' mean length."""
    steps = list[int]()
    for number, (phase, mean) in enumerate(zip(phases_of(config), mean_lengths, strict=True), 1):
        tokens, batch = (phase.share or 0) * (config.max_tokens or 0), batch_size_of(config, phase)
        if tokens < batch * mean:
            whose = f"of which phase {number} has {tokens:,.0f}, " if config.phases else ""
            raise ConfigError(
                f"pretraining.max_tokens is {config.max_tokens:,}, {whose}less than one step of {batch:,} samples of "
                f"{mean:,.1f} tokens ({batch * mean:,.0f}). Raise it, or lower train_batch_size."
            )
        steps.append(math.floor(tokens / (batch * mean)))
    return tuple(steps)


def with_steps(config: PretrainingConfig, steps: Sequence[int]) -> PretrainingConfig:
    """The config with each phase's budget in steps."""
    phases = tuple(
        phase.model_copy(update={"share": None, "steps": count})
        for phase, count in zip(config.phases, steps, strict=False)  # without phases there is a number all the same
    )
    return config.model_copy(update={"max_steps": sum(steps), "max_tokens": None, "phases": phases})


def check_lengths(config: PretrainingConfig, dataset: Artifact, store: Store) -> None:
    """ConfigError for a phase whose samples are longer than the positions, or than its datasets have any."""
    for number, phase in enumerate(phases_of(config), 1):
        datasets = [dataset if each.dataset is None else store.resolve(each.dataset) for each in phase.mixture]
        lengths = [store.manifest(each).config["max_seq_length"] for each in datasets]
        longest, of = max(zip(lengths, datasets, strict=True), key=lambda pair: pair[0])
        if phase.max_seq_length is not None and phase.max_seq_length > longest:
            raise ConfigError(
                f"pretraining.phases: phase {number} has max_seq_length {phase.max_seq_length}, and {of} samples of up "
                f"to {longest} tokens. Lower it, or name a dataset of longer samples."
            )
        what = str(of) if phase.max_seq_length is None else f"pretraining.phases: phase {number}"
        check_positions(config, phase.max_seq_length or longest, what)


def check_positions(config: PretrainingConfig, length: int, what: str) -> None:
    """ConfigError where samples of up to `length` tokens are longer than the encoder has positions."""
    if length > config.max_position_embeddings:
        shorter = "shorter samples (dataset.max_seq_length, or a phase's)"
        do = f"Take {shorter}" if config.init else f"Raise it, or take {shorter}"
        theirs = f", all that {config.init} has" if config.init else ""
        raise ConfigError(
            f"{what} has samples of up to {length} tokens, over pretraining.max_position_embeddings "
            f"{config.max_position_embeddings}{theirs}. {do}."
        )


def check_mixtures(config: PretrainingConfig, dataset: Artifact, store: Store) -> None:
    """ConfigError where phases name datasets of other vocabularies or kinds of pairs."""
    if any(phase.datasets for phase in config.phases):
        from pipeline.dataset.steps import check_mixed

        samples = open_samples(config, dataset, store)
        check_mixed([(samples[each.dataset], each.weight) for phase in config.phases for each in phase.mixture])


def named_datasets(config: PretrainingConfig, store: Store) -> tuple[Artifact, ...]:
    """What the phases name beside the training's own dataset, each once, in the order in which they name them."""
    named = dict.fromkeys(
        each.dataset for phase in config.phases for each in phase.datasets if each.dataset is not None
    )
    return tuple(store.resolve(reference) for reference in named)


def mixture_identity(config: PretrainingConfig, datasets: Iterable[Artifact]) -> tuple[tuple[str, str], ...]:
    """What the recipe must have beside its config and parents where phases name datasets: which phase has which."""
    digests = {each.reference: each.digest for each in datasets}
    named = [[digests[each.dataset] if each.dataset else "" for each in phase.mixture] for phase in config.phases]
    return (("phases", fingerprint(named)),) if any(map(any, named)) else ()


def open_samples(config: PretrainingConfig, dataset: Artifact, store: Store) -> "dict[str | None, Samples]":
    """The train part of each dataset of a settled config, by its reference; None: the training's own."""
    from pipeline.dataset.samples import Samples

    opened: dict[str | None, Samples] = {None: Samples(store, dataset)}
    return opened | {each.reference: Samples(store, each) for each in named_datasets(config, store)}


def heldout_of(config: PretrainingConfig, dataset: Artifact, store: Store) -> "dict[str, Samples]":
    """The held-out part of each dataset that has one, by its reference, at the masking rate of validation."""
    from pipeline.dataset.samples import Samples
    from pipeline.pretraining.watching.validation import MASKED_LM_PROB

    datasets = (dataset, *named_datasets(config, store))
    opened = {str(each): Samples(store, each, "heldout", masked_lm_prob=MASKED_LM_PROB) for each in datasets}
    return {name: samples for name, samples in opened.items() if len(samples)}


def plan_of(config: PretrainingConfig, samples: "Mapping[str | None, Samples]", *, world: int, device: str) -> "Plan":
    """All steps of a settled config over `open_samples`, dealt to `world` ranks on devices of that type.

    Raises ConfigError where datasets of any phases have different vocabularies or kinds of pairs.
    """
    from pipeline.dataset.plan import Phase, Plan

    phases = [
        Phase(
            tuple((samples[each.dataset], each.weight) for each in phase.mixture),
            steps,
            batch_size_of(config, phase),
            micro_batch_size_of(config, phase),
            phase.max_seq_length,
        )
        for phase, steps in zip(phases_of(config), steps_of(config), strict=True)
    ]
    return Plan(phases, seed=config.seed, has_fixed_buffers=device.startswith("cuda"), world=world)


def _with_versions(phase: PhaseConfig, dataset: Artifact, store: Store) -> PhaseConfig:
    """References as versions, so that an alias that moves meanwhile means the same all along; the own one as None."""
    resolved = list[MixedDataset]()
    for each in phase.datasets:
        found = None if each.dataset is None else store.resolve(each.dataset)
        if found is not None and found.kind != "dataset":
            raise UnknownReference(
                f"pretraining.phases names {each.dataset}, a {found.kind}, where a dataset is wanted."
            )
        reference = None if found in (None, dataset) else str(found)
        if reference in [other.dataset for other in resolved]:
            raise ConfigError(
                f"pretraining.phases: a phase names {found or dataset} twice; its samples would come in pairs. Name it "
                f"once, with the weight that it is to have."
            )
        resolved.append(each.model_copy(update={"dataset": reference}))
    return phase.model_copy(update={"datasets": tuple(resolved)})
