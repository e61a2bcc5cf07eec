"""The DeepSpeed engine: their JSON owns the systems keys, our config the mathematics, and no key stands in both.

Gradient accumulation is ours (`managed_gradient_accumulation` false): a step's micro-batches carry sums divided by the
counts of the whole batch, so that their number and sizes don't matter. Every value that DeepSpeed would choose itself
is written out: its defaults have changed between releases.
"""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError, nearest
from pipeline.settings import Settings

if TYPE_CHECKING:
    import torch

    from pipeline.pretraining.model.bert import BertForPreTraining

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
    "timers": "nothing: bertmill tells its own pace, and theirs waits for the device in each pass",
}
"""Keys of DeepSpeed's that our config decides, and what of it to set instead."""
SYSTEMS = frozenset(
    [
        "zero_optimization",
        "communication_data_type",
        "prescale_gradients",
        "gradient_predivide_factor",
        "disable_allgather",
        "comms_logger",
        "wall_clock_breakdown",
        "memory_breakdown",
        "flops_profiler",
        "steps_per_print",
        "dump_state",
        "wandb",
        "csv_monitor",
        "comet",
    ]
)
"""Keys of DeepSpeed's that its JSON may set; it passes over what it doesn't know."""
FP16 = {"enabled": True, "auto_cast": False, "loss_scale": 1.0, "fp16_master_weights_and_grads": False}
"""DeepSpeed's own scale is 1, for ours is in the loss (loss_scale.py); its other keys are of a scale that it finds."""
NUMBERS: dict[str, tuple[int, int | None]] = {"stage": (0, 3), "reduce_bucket_size": (0, None)}
"""Of `zero_optimization`, what is read here before DeepSpeed checks it, and its least and most."""


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
    for key in config.keys() - SYSTEMS:
        raise ConfigError(
            f"The DeepSpeed config {path} sets {key!r}, which means nothing here. {nearest(key, SYSTEMS)}"
        )
    _check_zero(path, config.get("zero_optimization", {}))
    return config


def _check_zero(path: Path, zero: Any) -> None:
    """ConfigError where a number that we read is none, or out of its range."""
    if not isinstance(zero, dict):
        raise ConfigError(f"The DeepSpeed config {path} sets zero_optimization to {zero!r}: it must be an object.")
    for key in ("offload_optimizer", "offload_param"):
        if zero.get(key):
            raise ConfigError(
                f"The DeepSpeed config {path} sets zero_optimization.{key}, which DeepSpeed allows with its own "
                f"optimizers only, and bertmill's is torch's AdamW. Remove it; take a higher ZeRO stage, or more ranks."
            )
    for key, (least, most) in NUMBERS.items():
        value = zero.get(key, least)
        is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        if not is_whole or value < least or (most is not None and value > most):
            allowed = f"from {least} to {most}" if most is not None else f"of {least} or more"
            raise ConfigError(
                f"The DeepSpeed config {path} sets zero_optimization.{key} to {value!r}: it must be a whole number "
                f"{allowed}."
            )


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
    bf16, fp16 = (config.precision == each for each in ("bf16", "fp16"))
    ours: dict[str, Any] = {
        "train_batch_size": world,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0,  # guard.py clips, in the optimizer's kernel
        "fp16": FP16 if fp16 else {"enabled": False},
        "bf16": {"enabled": bf16, "check_grad_overflow": False},  # guard.py does, without waiting for the device
        "zero_allow_untested_optimizer": True,
        "timers": {"throughput": {"enabled": False}},
    }
    if bf16 and zero_stage(systems) == 1:
        ours["data_types"] = {"grad_accum_dtype": "fp32"}
    return systems | ours


def check_device(config: PretrainingConfig) -> None:
    """ConfigError for a precision that this rank's device lacks."""
    import torch

    is_gpu = torch.cuda.is_available()
    if config.precision == "bf16" and is_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            f'pretraining.precision is "bf16", which a {torch.cuda.get_device_name()} lacks; it came with NVIDIA\'s '
            f'Ampere. Set it to "fp16" or "fp32", or take another device.'
        )
    if config.precision == "fp16" and not is_gpu:
        raise ConfigError(
            'pretraining.precision is "fp16", in which GPUs train, and this rank runs on a CPU. Set it to "bf16" or '
            '"fp32", or take a GPU.'
        )


def initialise(
    model: "BertForPreTraining",
    config: PretrainingConfig,
    systems: dict[str, Any],
    world: int,
    tensorboard: Path | None = None,
) -> Any:
    """The engine, on this rank's device, with AdamW; `tensorboard` is the folder of its events."""
    from pipeline.pretraining.optimizer import make_optimizer

    deepspeed = import_deepspeed()
    if is_compiled(systems):
        model.compile_regions(dtype_of(config))
    whole = whole_config(config, systems, world)
    if tensorboard is not None:
        whole["tensorboard"] = {"enabled": True, "output_path": str(tensorboard.parent), "job_name": tensorboard.name}
    optimizer = make_optimizer(model, config)
    # DeepSpeed 0.19 begins this by a step of zero gradients: weights decay, and Adam takes its first for its second.
    takes_a_step = config.precision != "fp32" and zero_stage(systems) == 0
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if takes_a_step else group["lr"]
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=whole)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    if takes_a_step:
        optimizer.state.clear()
    return engine


def is_compiled(systems: dict[str, Any]) -> bool:
    """Whether regions of the model are: on GPUs, but for ZeRO-3, which gathers weights amid what would be compiled."""
    import torch

    return torch.cuda.is_available() and zero_stage(systems) < 3


def dtype_of(config: PretrainingConfig) -> "torch.dtype":
    """Of the weights in the passes."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


def patience(settings: Settings) -> timedelta:
    """How long a rank waits for others: after all that the watchdog and the store may take, so that these say why."""
    return timedelta(seconds=2 * max(settings.start_s, settings.hang_s, settings.store_deadline_s))


def join(settings: Settings) -> None:
    """Take this rank's device, and meet the others; on a CPU, keep what steps free. ConfigError: more ranks than GPUs.

    Groups that DeepSpeed makes besides keep torch's patience.
    """
    import logging

    import torch

    from pipeline.pretraining.allocator import keep_freed_memory

    deepspeed = import_deepspeed()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if torch.cuda.is_available():
        if (rank := int(os.environ["LOCAL_RANK"])) >= (gpus := torch.cuda.device_count()):
            raise ConfigError(
                f"Rank {rank} of this machine has no GPU: {gpus} can be seen (CUDA_VISIBLE_DEVICES). Set "
                f"BERTMILL_RANKS to {gpus}."
            )
        torch.cuda.set_device(rank)
    else:
        keep_freed_memory()
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    deepspeed.init_distributed(dist_backend=backend, timeout=patience(settings), verbose=False)


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
