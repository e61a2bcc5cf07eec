"""The DeepSpeed engine: their JSON owns the systems keys (systems.py), our config the mathematics; no key is in both.

Gradient accumulation is ours (`managed_gradient_accumulation` false): a step's micro-batches carry sums divided by the
counts of the whole batch, so that their number and sizes don't matter. What decides an arithmetic is written out here,
for DeepSpeed's defaults have changed between releases.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.pretraining.systems import zero_stage
from pipeline.settings import Settings

if TYPE_CHECKING:
    import torch

    from pipeline.pretraining.model.bert import BertForPreTraining

FP16 = {"enabled": True, "auto_cast": False, "loss_scale": 1.0, "fp16_master_weights_and_grads": False}
"""DeepSpeed's own scale is 1, for ours is in the loss (loss_scale.py); its other keys are of a scale that it finds."""


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
        "communication_data_type": "fp32",
        "prescale_gradients": False,
        "gradient_predivide_factor": 1.0,
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
