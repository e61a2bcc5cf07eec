"""Which numbers of which parameters this rank's optimizer holds: the same answer for every ZeRO stage and world.

A fragment is a run of one parameter's numbers, flattened. Stages 1 and 2 lay all parameters end to end and give each
rank a range; stage 3 gives each rank its share of each parameter; without ZeRO every rank holds everything, and owns
its share of each parameter. Fragments of all ranks make up every parameter once, so that what one cluster has left,
another takes up: a checkpoint is 12 bytes a parameter over all ranks, and the module's weights are the fp32 ones cast.

DeepSpeed's own calls for this know stages 1 to 3 only, gather whole parameters on every rank and can't reach Adam's
step; so three of its private names are read here (`_hp_mapping`, `fp16_groups`, `fp32_partitioned_groups_flat`).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.pretraining.guard import torch_optimizer
from pipeline.pretraining.place import Place

MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHT = "weight"
KINDS = (WEIGHT, *MOMENTS)
"""What the optimizer keeps of each number, all in fp32: itself, and Adam's two moments."""


@dataclass(frozen=True)
class Fragment:
    """A run of a parameter's numbers, flattened."""

    name: str
    start: int
    count: int


@dataclass(frozen=True)
class Held:
    """A fragment, and where it lies in a tensor that this rank's optimizer updates."""

    fragment: Fragment
    master: Tensor
    at: int
    """In the master, flattened."""

    def of(self, tensor: Tensor) -> Tensor:
        """The fragment's numbers in a tensor that is laid out as the master: a view."""
        return tensor.detach().view(-1).narrow(0, self.at, self.fragment.count)


def held_fragments(engine: Any, place: Place) -> list[Held]:
    """All that this rank's optimizer updates, in the module's order."""
    find = {0: _held_without_zero, 3: _held_by_stage_3}.get(place.zero_stage, _held_by_stages_1_and_2)
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    order = {name: number for number, name in enumerate(names.values())}
    found = [
        Held(Fragment(names[id(parameter)], start, count), master, at)
        for parameter, start, count, master, at in find(engine, place)
        if count > 0
    ]
    return sorted(found, key=lambda held: (order[held.fragment.name], held.fragment.start))


def owned_fragments(engine: Any, place: Place) -> list[Held]:
    """Those that this rank answers for: no number is another rank's too."""
    held = held_fragments(engine, place)
    return held if place.zero_stage else [own for each in held for own in _share(each, place)]


def parameter_shapes(engine: Any) -> dict[str, torch.Size]:
    """The shape of each whole parameter."""
    return {name: getattr(each, "ds_shape", each.shape) for name, each in engine.module.named_parameters()}


def numbers_of(engine: Any, held: Held, kind: str) -> Tensor:
    """The fragment's weights or one of its moments: a view into the optimizer.

    Or zeros, before Adam's first step: in fp16 a training's first ones may be skipped.
    """
    if kind == WEIGHT:
        return held.of(held.master)
    moments = torch_optimizer(engine).state.get(held.master, {})
    if not moments and engine.fp16_enabled():
        return torch.zeros(held.fragment.count, device=held.master.device)
    return held.of(moments[kind])


def optimizer_step(engine: Any) -> float:
    """How often Adam has stepped, by its own count, which its bias corrections go by and all tensors share."""
    return next((float(each["step"]) for each in torch_optimizer(engine).state.values() if "step" in each), 0.0)


@torch.no_grad()
def restore_fragments(engine: Any, place: Place, read: Callable[[str, Fragment], Tensor], step: float) -> None:
    """Put weights and moments into a fresh engine, whose module has the whole weights already.

    `read(kind, fragment)` gives a fragment's numbers; it is asked for what this rank holds, and no more. No null step
    is taken: the optimizer's state is made here.
    """
    state = torch_optimizer(engine).state
    held = held_fragments(engine, place)
    for master in {id(each.master): each.master for each in held}.values():
        state[master] = {moment: torch.zeros_like(master, requires_grad=False) for moment in MOMENTS}
        state[master]["step"] = torch.tensor(step, dtype=torch.float32, device=master.device)
    for each in held:
        for kind in KINDS:
            numbers_of(engine, each, kind).copy_(read(kind, each.fragment))


@torch.no_grad()
def whole_weights(engine: Any, place: Place) -> dict[str, Tensor]:
    """The fp32 weights, whole, on rank 0; nothing elsewhere. All ranks call; one parameter at a time is gathered."""
    owned = defaultdict[str, list[Held]](list)
    for each in owned_fragments(engine, place):
        owned[each.fragment.name].append(each)
    weights: dict[str, Tensor] = {}
    for name, shape in parameter_shapes(engine).items():
        whole = torch.zeros(math.prod(shape), device=engine.device)
        for each in owned[name]:
            whole.narrow(0, each.fragment.start, each.fragment.count).copy_(each.of(each.master))
        if place.world > 1:
            dist.reduce(whole, 0)  # every number is one rank's, and zero on the others
        if place.rank == 0:
            weights[name] = whole.cpu().view(shape)
    return weights


def parted(numbers: Tensor, fragments: Iterable[Fragment]) -> Iterator[tuple[Fragment, Tensor]]:
    """Each fragment with its part of `numbers`, in which they lie end to end: views."""
    at = 0
    for each in fragments:
        yield each, numbers.narrow(0, at, each.count)
        at += each.count


_Found = Iterator[tuple[Tensor, int, int, Tensor, int]]
"""Parameter, start and count in it, the master, and where in that."""


def _held_without_zero(engine: Any, place: Place) -> _Found:  # noqa: ARG001  (every rank holds all)
    """In fp32 the parameters themselves; in half precision DeepSpeed keeps an fp32 copy of each, in the same order."""
    groups = [group["params"] for group in torch_optimizer(engine).param_groups]
    for parameters, masters in zip(getattr(engine.optimizer, "fp16_groups", groups), groups, strict=True):
        for parameter, master in zip(parameters, masters, strict=True):
            yield parameter, 0, master.numel(), master, 0


def _held_by_stages_1_and_2(engine: Any, place: Place) -> _Found:  # noqa: ARG001  (the mapping is this rank's)
    """A flat master for each group of the optimizer, of which each parameter knows its own part."""
    groups = torch_optimizer(engine).param_groups
    for parameter in engine.module.parameters():
        if (mapping := parameter._hp_mapping) is not None:
            own, there = mapping.lp_fragment_address, mapping.hp_fragment_address
            (master,) = groups[mapping.param_group_index]["params"]
            yield parameter, own.start, own.numel, master, there.start


def _held_by_stage_3(engine: Any, place: Place) -> _Found:
    """Each rank has an equal part of every parameter, the last ones padded; a group's parts lie in one flat master."""
    optimizer = engine.optimizer
    for parameters, master in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
        at = 0
        for parameter in parameters:
            part = parameter.partition_numel()
            start = place.rank * part
            yield parameter, start, min(part, parameter.ds_numel - start), master, at
            at += part


def _share(held: Held, place: Place) -> Iterator[Held]:
    """The equal part of it that is this rank's, where all hold it."""
    whole = held.fragment
    part = -(-whole.count // place.world)
    start = min(place.rank * part, whole.count)
    if (count := min(part, whole.count - start)) > 0:
        yield Held(Fragment(whole.name, whole.start + start, count), held.master, held.at + start)
