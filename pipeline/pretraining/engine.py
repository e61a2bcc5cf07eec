"""The DeepSpeed engine: their JSON owns the systems keys, our config the mathematics, and no key stands in both.

Gradient accumulation is ours (`managed_gradient_accumulation` false): a step's micro-batches carry sums divided by the
counts of the whole batch, so that their number and sizes don't matter. Every value that DeepSpeed would choose itself
is written out: its defaults have changed between releases.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pipeline.pretraining.model import BertForPreTraining

OWNED = {
    "train_batch_size": "pretraining.train_batch_size",
    "train_micro_batch_size_per_gpu": "pretraining.train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps": "pretraining.train_batch_size and train_micro_batch_size_per_gpu",
    "managed_gradient_accumulation": "nothing: bertmill divides the loss itself",
    "gradient_clipping": "pretraining.gradient_clipping",
    "optimizer": "pretraining.learning_rate, adam_beta1, adam_beta2, adam_epsilon and weight_decay",
    "scheduler": "pretraining.warmup_share, schedule and max_steps",
    "fp16": "pretraining.precision",
    "bf16": "pretraining.precision",
    "amp": "pretraining.precision",
    "torch_autocast": "pretraining.precision",
    "data_types": "pretraining.precision",
    "activation_checkpointing": "pretraining.activation_checkpointing",
    "tensorboard": "the environment variable BERTMILL_TENSORBOARD",
    "zero_allow_untested_optimizer": "nothing: the optimizer is bertmill's",
}
"""Keys of DeepSpeed's that our config decides, and what of it to set instead."""


def systems_config(name_or_path: str) -> dict[str, Any]:
    """The DeepSpeed JSON that a preset names. ConfigError: no such file, not JSON, or a key that our config owns."""
    path = _find(name_or_path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The DeepSpeed config {path} can't be read as JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ConfigError(f"The DeepSpeed config {path} must hold one JSON object.")
    for key in config:
        if key in OWNED:
            raise ConfigError(
                f"The DeepSpeed config {path} sets {key!r}, which the preset owns. Remove it there; set {OWNED[key]}."
            )
    return config


def _find(name_or_path: str) -> Path:
    root = Path(__file__).parents[1]
    for folder in (root.parent / "deepspeed_configs", root / "deepspeed_configs"):  # a checkout, an installed wheel
        if folder.is_dir():
            break
    known = {path.stem: path for path in folder.glob("*.json")}
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path
    raise ConfigError(
        f"pretraining.deepspeed is {name_or_path!r}: no config of that name, and no .json file at that path. "
        f"{nearest(name_or_path, known)}"
    )


def zero_stage(systems: dict[str, Any]) -> int:
    """The ZeRO stage of a DeepSpeed config; theirs is 0 where it says nothing."""
    return int(systems.get("zero_optimization", {}).get("stage", 0))


def whole_config(config: PretrainingConfig, systems: dict[str, Any], world: int) -> dict[str, Any]:
    """Theirs and ours together, as `deepspeed.initialize` takes them.

    Its batch sizes only have to agree with each other, since it neither loads nor divides: samples are dealt by us.
    """
    bf16 = config.precision == "bf16"
    ours: dict[str, Any] = {
        "train_batch_size": world,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0,  # guard.py clips, in the optimizer's kernel
        "fp16": {"enabled": False},
        "bf16": {"enabled": bf16, "check_grad_overflow": False},  # guard.py does, without waiting for the device
        "zero_allow_untested_optimizer": True,
    }
    if bf16 and zero_stage(systems) == 1:
        ours["data_types"] = {"grad_accum_dtype": "fp32"}
    return systems | ours


def check_device(config: PretrainingConfig) -> None:
    """ConfigError for a precision that this rank's device lacks."""
    import torch

    if config.precision == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f'pretraining.precision is "bf16", which a {torch.cuda.get_device_name()} lacks; it came with NVIDIA\'s '
            f'Ampere. Set it to "fp32", or take another device.'
        )


def initialise(
    model: "BertForPreTraining",
    config: PretrainingConfig,
    systems: dict[str, Any],
    world: int,
    tensorboard: Path | None = None,
) -> Any:
    """The engine, on this rank's device, with AdamW; `tensorboard` is the folder of its events."""
    import torch

    from pipeline.pretraining.optimizer import make_optimizer

    deepspeed = import_deepspeed()
    if torch.cuda.is_available() and zero_stage(systems) < 3:  # ZeRO-3 gathers weights amid what would be compiled
        model.compile_regions()
    whole = whole_config(config, systems, world)
    if tensorboard is not None:
        whole["tensorboard"] = {"enabled": True, "output_path": str(tensorboard.parent), "job_name": tensorboard.name}
    optimizer = make_optimizer(model, config)
    # DeepSpeed 0.19 begins this by a step of zero gradients: weights decay, and Adam takes its first for its second.
    takes_a_step = config.precision == "bf16" and zero_stage(systems) == 0
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if takes_a_step else group["lr"]
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=whole)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    if takes_a_step:
        optimizer.state.clear()
    return engine


def join() -> None:
    """Take this rank's device, and meet the others."""
    import logging

    import torch

    from pipeline.pretraining.allocator import keep_freed_memory

    deepspeed = import_deepspeed()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        keep_freed_memory()
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)


def import_deepspeed() -> Any:
    """DeepSpeed, without the extension that it would compile at every start on a CPU.

    It holds a lock while it does so, and a killed run's lock makes every later one wait for ever.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
