"""Checkpoints through the store: safetensors only, each rank its own part, and one record that makes them count.

A checkpoint is the module's weights (from rank 0), and of each rank the tensors that its optimizer updates with their
moments, exactly as they stand; so a run of the same world and ZeRO stage goes on bit for bit. Another world or stage
can't use these partitions, and begins anew. Costs 12 bytes a parameter, and 2 or 4 more for the weights.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import StoreError
from pipeline.pretraining.model import BertForPreTraining
from pipeline.store import FileEntry, Store, Work

KEEP = 2
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class Place:
    """Who holds which part: partitions fit only the same one."""

    rank: int
    world: int
    zero_stage: int


@dataclass(frozen=True)
class Resume:
    """What a run goes on from."""

    step: int
    """Steps that are done."""
    curve: Path
    weights: dict[str, Tensor]
    partition: dict[str, Tensor]


def snapshot_name(step: int, place: Place) -> str:
    """The snapshot's name after `step` steps; they sort by it, and worlds don't take each other's names."""
    return f"step-{step:09d}-of-{place.world}-zero{place.zero_stage}"


def save_checkpoint(engine: Any, work: Work, step: int, curve: Path, place: Place, folder: Path) -> None:
    """Store this rank's part; rank 0 commits when all have. Called by all ranks after `step` steps."""
    weights = module_weights(engine, place)
    own = [_stored(work, folder, f"rank-{place.rank:05d}.safetensors", partition_of(engine))]
    if place.rank == 0:
        own.append(_stored(work, folder, "weights.safetensors", weights))
        own.append(work.add(curve, "curve.jsonl"))
    gathered: list[list[FileEntry]] = [[] for _ in range(place.world)]
    dist.all_gather_object(gathered, own)
    if place.rank == 0:
        record = {"step": step, "world": place.world, "zero_stage": place.zero_stage}
        name = snapshot_name(step, place)
        work.commit(name, [entry for each in gathered for entry in each], record)
        same_place = name.partition("-of-")[2]
        for old in [each for each in work.names() if each.endswith(f"-of-{same_place}")][KEEP:]:
            work.remove(old)


def load_checkpoint(store: Store, work: Work, place: Place) -> Resume | None:
    """The newest checkpoint that is whole and fits this world. Called by all ranks.

    Rank 0 chooses for all: an owner that has lost the lease may still add and remove while they look.
    """
    chosen = [_newest(store, work, place) if place.rank == 0 or not dist.is_initialized() else None]
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)
    if chosen[0] is None:
        return None
    step, files = chosen[0]
    paths = {
        entry.path: store.blob(entry)
        for entry in files
        if entry.path in ("curve.jsonl", "weights.safetensors", f"rank-{place.rank:05d}.safetensors")
    }
    return Resume(
        step,
        paths["curve.jsonl"],
        load_file(paths["weights.safetensors"]),
        load_file(paths[f"rank-{place.rank:05d}.safetensors"]),
    )


def _newest(store: Store, work: Work, place: Place) -> tuple[int, list[FileEntry]] | None:
    """Its step and its files, all of which were read and are what they should be."""
    for name in work.names():
        try:
            files, record = work.load(name)
            if (record["world"], record["zero_stage"]) != (place.world, place.zero_stage):
                if place.rank == 0:
                    log.warning(
                        "%s is of %s ranks under ZeRO %s, this run of %s under %s: starting from the first step",
                        name, record["world"], record["zero_stage"], place.world, place.zero_stage,
                    )  # fmt: skip
                continue
            for entry in files:
                store.blob(entry)
        except StoreError as error:
            log.warning("checkpoint %s is passed over: %s", name, error)
            continue
        return record["step"], files
    return None


def module_weights(engine: Any, place: Place) -> dict[str, Tensor]:
    """The module's whole weights on rank 0 (ZeRO-3 gathers them, one at a time); nothing elsewhere. All ranks call."""
    module: BertForPreTraining = engine.module
    weights: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        with _whole(parameter, place):
            if place.rank == 0:
                weights[name] = parameter.detach().cpu().clone()
    return weights


def _whole(parameter: Tensor, place: Place) -> Any:
    from contextlib import nullcontext

    if place.zero_stage < 3:
        return nullcontext()
    from deepspeed.runtime.zero import GatheredParameters

    return GatheredParameters([parameter])


def partition_of(engine: Any) -> dict[str, Tensor]:
    """The tensors that this rank's optimizer updates, with their moments."""
    tensors: dict[str, Tensor] = {}
    optimizer = _torch_optimizer(engine)
    for name, parameter in _optimised(engine):
        tensors[f"{name}.master"] = parameter.detach()
        tensors |= {f"{name}.{moment}": optimizer.state[parameter][moment] for moment in MOMENTS}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def restore_partition(engine: Any, partition: dict[str, Tensor]) -> None:
    """Put `partition_of`'s tensors back into a fresh engine."""
    optimizer = _torch_optimizer(engine)
    for name, parameter in _optimised(engine):
        parameter.copy_(partition[f"{name}.master"])
        optimizer.state[parameter] = {
            moment: partition[f"{name}.{moment}"].to(parameter.device).clone() for moment in MOMENTS
        }


def _torch_optimizer(engine: Any) -> torch.optim.Optimizer:
    """Torch's optimizer, under whatever DeepSpeed wraps it in."""
    optimizer = engine.optimizer
    while not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def _optimised(engine: Any) -> Iterator[tuple[str, Tensor]]:
    """ZeRO-3 lends torch's optimizer one flat tensor at a time and takes it back, so there they are its own list."""
    if (flat := getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)) is not None:
        yield from ((f"flat.{number}", parameter) for number, parameter in enumerate(flat))
        return
    for group, members in enumerate(_torch_optimizer(engine).param_groups):
        for number, parameter in enumerate(members["params"]):
            yield f"group-{group}.{number}", parameter


def _stored(work: Work, folder: Path, name: str, tensors: dict[str, Tensor]) -> FileEntry:
    path = folder / name
    save_file(tensors, path)
    entry = work.add(path, name)
    path.unlink()
    return entry
