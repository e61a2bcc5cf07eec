"""DeepSpeed's JSON: how the work is split over the machines, checked and written out before anything starts.

A user's file is laid over the shipped one of its ZeRO stage, key by key, so that no value is left to DeepSpeed, whose
defaults have changed between releases. It may set what can't change what is computed but for the order of a sum: the
tests train with all of these away from their shipped values. Anything else is refused with the reason, for the
fingerprint would know nothing of it. Costs two small files; DeepSpeed, whose import takes seconds, isn't asked.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, nearest

ZERO_KEY = "zero_optimization"
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
    "communication_data_type": "nothing: ranks sum their gradients in fp32, whatever the precision",
    "prescale_gradients": "nothing: what ranks sum in fp32 doesn't overflow",
    "gradient_predivide_factor": "nothing: what ranks sum in fp32 doesn't overflow",
    "activation_checkpointing": "pretraining.activation_checkpointing",
    "tensorboard": "the environment variable BERTMILL_TENSORBOARD",
    "zero_allow_untested_optimizer": "nothing: the optimizer is bertmill's",
    "timers": "nothing: bertmill tells its own pace, and theirs waits for the device in each pass",
}
"""Keys of DeepSpeed's that our config decides, and what of it to set instead."""

_OFFLOAD = (
    "which DeepSpeed allows with its own optimizers only, and bertmill's is torch's AdamW. Remove it; take a higher "
    "ZeRO stage, or more ranks"
)
_QUANTISED = "which sends numbers in fewer bits: the same preset would train another model. Remove it"
_PARTED = "which parts weights over some of the ranks, where checkpoints are read as parted over all. Remove it"
_THEIRS = "which is about DeepSpeed's own checkpoints; bertmill has others. Remove it"
REFUSED = {
    "offload_optimizer": _OFFLOAD,
    "offload_param": _OFFLOAD,
    "cpu_offload": _OFFLOAD,
    "cpu_offload_param": _OFFLOAD,
    "cpu_offload_use_pin_memory": _OFFLOAD,
    "zenflow": _OFFLOAD,
    "zero_quantized_weights": _QUANTISED,
    "zero_quantized_gradients": _QUANTISED,
    "zero_quantized_nontrainable_weights": _QUANTISED,
    "zero_hpz_partition_size": _PARTED,
    "mics_shard_size": _PARTED,
    "mics_hierarchical_params_gather": _PARTED,
    "round_robin_gradients": "which is for offload, and lays weights out otherwise than they are published. Remove it",
    "elastic_checkpoint": _THEIRS,
    "load_from_fp32_weights": _THEIRS,
    "pipeline_loading_checkpoint": _THEIRS,
    "stage3_gather_16bit_weights_on_model_save": _THEIRS,
    "stage3_gather_fp16_weights_on_model_save": _THEIRS,
    "compute_grad_norm": "by which a gradient that isn't finite is seen, and clipped. Remove it: it is on",
}
"""Keys of `zero_optimization` that would do something, and why it is not to be done."""


@dataclass(frozen=True)
class Kind:
    """What a value must be."""

    said: str
    takes: Callable[[Any], bool]


def _is_whole(value: Any, least: int, most: int | None = None) -> bool:
    """Whether it is a whole number in that range; 5e8 is one, as JSON writes large ones."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return is_number and value >= least and (most is None or value <= most)


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
OFF = Kind("false under ZeRO-1, which sums gradients after the passes", lambda value: value is False)
STAGE = Kind("a whole number from 0 to 3", partial(_is_whole, least=0, most=3))
COUNT = Kind("a whole number of 0 or more", partial(_is_whole, least=0))
SIZE = Kind("a whole number of 1 or more", partial(_is_whole, least=1))
SHARE = Kind("a number of 0 or more", lambda value: isinstance(value, int | float) and value >= 0)
TEXT = Kind("text", lambda value: isinstance(value, str))
NAMES = Kind("a list of names", lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value))

_SUMMED = {"contiguous_gradients": FLAG, "reduce_scatter": FLAG, "reduce_bucket_size": SIZE}
_GATHERED = {"use_multi_rank_bucket_allreduce": FLAG, "allgather_bucket_size": SIZE, "parameter_alignment": FLAG}
_FETCHED = {
    "sub_group_size": SIZE,
    "stage3_prefetch_bucket_size": COUNT,
    "stage3_param_persistence_threshold": COUNT,
    "stage3_model_persistence_threshold": COUNT,
    "stage3_max_live_parameters": COUNT,
    "stage3_max_reuse_distance": COUNT,
    "stage3_module_granularity_threshold": COUNT,
    "stage3_use_all_reduce_for_fetch_params": FLAG,
    "stage3_allgather_sequential": FLAG,
}
ZERO: Mapping[int, Mapping[str, Kind]] = {
    0: {"stage": STAGE, "allgather_bucket_size": SIZE},
    1: {"stage": STAGE, "overlap_comm": OFF} | _SUMMED | _GATHERED,
    2: {"stage": STAGE, "overlap_comm": FLAG} | _SUMMED | _GATHERED,
    3: {"stage": STAGE, "overlap_comm": FLAG} | _SUMMED | _FETCHED,
}
"""What `zero_optimization` may set, by its stage; the shipped files set all of it."""
TOLD: dict[str, Kind | Mapping[str, Kind]] = {
    "wall_clock_breakdown": FLAG,
    "memory_breakdown": FLAG,
    "dump_state": FLAG,
    "steps_per_print": SIZE,
    "comms_logger": {"enabled": FLAG, "verbose": FLAG, "prof_all": FLAG, "prof_ops": NAMES, "debug": FLAG},
    "flops_profiler": {
        "enabled": FLAG,
        "recompute_fwd_factor": SHARE,
        "profile_step": SIZE,
        "module_depth": Kind("a whole number of -1 or more", partial(_is_whole, least=-1)),
        "top_modules": SIZE,
        "detailed": FLAG,
        "output_file": TEXT,
    },
    "csv_monitor": {"enabled": FLAG, "output_path": TEXT, "job_name": TEXT},
    "wandb": {"enabled": FLAG, "group": TEXT, "team": TEXT, "project": TEXT},
    "comet": {
        "enabled": FLAG,
        "samples_log_interval": SIZE,
        "project": TEXT,
        "workspace": TEXT,
        "experiment_name": TEXT,
        "experiment_key": TEXT,
        "online": FLAG,
        "mode": TEXT,
    },
}
"""What a file may set beside it: what DeepSpeed tells, and where."""


def systems_config(name_or_path: str) -> dict[str, Any]:
    """The DeepSpeed JSON that a preset names, laid over the shipped one of its stage.

    ConfigError: no such file, not JSON, a key that isn't the file's to set, a value that its key doesn't take.
    """
    path = _find(name_or_path)
    own = _read(path)
    for key in own:
        if key in OWNED:
            raise ConfigError(
                f"The DeepSpeed config {path} sets {key!r}, which the preset owns. Remove it there; set {OWNED[key]}."
            )
    _check(path, {key: value for key, value in own.items() if key != ZERO_KEY}, TOLD | {ZERO_KEY: ZERO[0]})
    stage = _stage(path, own.get(ZERO_KEY, {}))
    _check(path, own[ZERO_KEY], ZERO[stage], ZERO_KEY)
    return _laid_over(_read(_folder() / f"zero{stage}.json"), own)


def zero_stage(systems: dict[str, Any]) -> int:
    """The ZeRO stage of what `systems_config` gave."""
    return int(systems[ZERO_KEY]["stage"])


def _stage(path: Path, zero: Any) -> int:
    if isinstance(zero, dict) and "stage" not in zero:
        raise ConfigError(f"The DeepSpeed config {path} lacks {ZERO_KEY}.stage. Set it to {STAGE.said}.")
    _check(path, {"stage": zero["stage"]} if isinstance(zero, dict) else zero, {"stage": STAGE}, ZERO_KEY)
    return int(zero["stage"])


def _check(path: Path, given: Any, kinds: Mapping[str, Kind | Mapping[str, Kind]], within: str = "") -> None:
    """ConfigError for a key that isn't among `kinds`, or a value that isn't of its kind."""
    if not isinstance(given, dict):
        raise ConfigError(f"The DeepSpeed config {path} sets {within} to {given!r}: it must be an object.")
    for key, value in given.items():
        name, kind = f"{within}.{key}" if within else key, kinds.get(key)
        if isinstance(kind, Kind):
            if not kind.takes(value):
                raise ConfigError(f"The DeepSpeed config {path} sets {name} to {value!r}: it must be {kind.said}.")
        elif kind is not None:
            _check(path, value, kind, name)
        else:
            raise ConfigError(f"The DeepSpeed config {path} sets {name}, {_why_not(key, kinds, within)}")


def _why_not(key: str, kinds: Mapping[str, Kind | Mapping[str, Kind]], within: str) -> str:
    """Why a key isn't the file's to set, and what to do."""
    if within == ZERO_KEY and key in REFUSED:
        return f"{REFUSED[key]}."
    if within == ZERO_KEY and (stages := [f"{stage}" for stage in ZERO if key in ZERO[stage]]):
        return f"which is of ZeRO stage {', '.join(stages)} alone. Remove it."
    return f"which means nothing here. {nearest(key, kinds)}"


def _laid_over(shipped: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` where it says something, else `shipped`; whole numbers as such, for DeepSpeed doesn't ask."""
    merged = dict(shipped)
    for key, value in own.items():
        if isinstance(value, dict):
            merged[key] = _laid_over(shipped.get(key, {}), value)
        else:
            merged[key] = int(value) if isinstance(value, float) and value == value // 1 else value
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The DeepSpeed config {path} can't be read as JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ConfigError(f"The DeepSpeed config {path} must hold one JSON object.")
    return found


def _folder() -> Path:
    """Of the shipped ones: in a checkout, or in an installed wheel."""
    root = Path(__file__).parents[1]
    checkout = root.parent / "deepspeed_configs"
    return checkout if checkout.is_dir() else root / "deepspeed_configs"


def _find(name_or_path: str) -> Path:
    known = {path.stem: path for path in _folder().glob("*.json")}
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path
    raise ConfigError(
        f"pretraining.deepspeed is {name_or_path!r}: no config of that name, and no .json file at that path. "
        f"{nearest(name_or_path, known)}"
    )
