"""What a DeepSpeed JSON may set: a key of the preset's, one that would change a result or one that DeepSpeed would pass
over is an error that says what to do; so is a value that its key doesn't take.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.systems import OWNED, REFUSED, ZERO, systems_config, zero_stage
from pipeline.store import Store
from tests.small import Small

SHIPPED = ("zero0", "zero1", "zero2", "zero3")
PASSED_OVER = {
    *("allgather_partitions", "legacy_stage1"),  # read by nothing but a getter, or by what raises
    *("memory_efficient_linear", "override_module_apply", "leaf_module"),  # of models that are made under zero.Init
    *("enable_sanity_checks", "log_trace_cache_warnings", "ignore_unused_parameters"),  # for who works on DeepSpeed
    "save_muon_momentum_buffer_in_memory",
}
"""Keys of DeepSpeed's `zero_optimization` that have no use here, and get no sentence of their own."""


def written(folder: Path, content: object) -> str:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def zero(folder: Path, **values: Any) -> str:
    return written(folder, {"zero_optimization": values})


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("optimizer", "pretraining.learning_rate"),
        ("train_batch_size", "pretraining.train_batch_size"),
        ("gradient_clipping", "pretraining.gradient_clipping"),
        ("bf16", "pretraining.precision"),
        ("fp16", "pretraining.precision"),
        ("data_types", "pretraining.precision"),
        ("communication_data_type", "nothing: ranks sum their gradients in fp32, whatever the precision"),
        ("scheduler", "pretraining.warmup_share"),
        ("gradient_accumulation_steps", "train_micro_batch_size_per_gpu"),
    ],
)
def test_a_key_that_the_preset_owns_is_refused_with_what_to_set_instead(key: str, instead: str, tmp_path: Path) -> None:
    path = written(tmp_path, {"zero_optimization": {"stage": 1}, key: {}})
    with pytest.raises(ConfigError) as caught:
        systems_config(path)
    assert f"{path} sets {key!r}, which the preset owns. Remove it there; set " in str(caught.value)
    assert instead in str(caught.value)


def test_a_refused_key_ends_pretraining_before_any_rank_starts(
    small: Small, tiny: PretrainingConfig, fresh: Store, tmp_path: Path
) -> None:
    home = fresh.settings.home
    before = sorted(home.rglob("*"))
    config = tiny.model_copy(update={"deepspeed": written(tmp_path, {"optimizer": {"type": "Lamb"}})})
    with pytest.raises(ConfigError, match="'optimizer', which the preset owns"):
        pretrain(config, small.dataset, store=fresh)
    assert sorted(home.rglob("*")) == before, "no log, no work, nothing"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_is_found_by_its_name_and_sets_all_that_its_stage_may_set(name: str) -> None:
    systems = systems_config(name)
    assert f"zero{zero_stage(systems)}" == name
    assert systems["zero_optimization"].keys() == ZERO[zero_stage(systems)].keys()


def test_each_key_that_this_deepspeed_knows_is_allowed_or_refused_or_known_to_do_nothing_here() -> None:
    code = """
from pipeline.pretraining.engine import import_deepspeed
import_deepspeed()
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
print(*(field.alias or name for name, field in DeepSpeedZeroConfig.model_fields.items()))
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2])
    theirs = {*done.stdout.splitlines()[-1].split()}
    allowed = {key for keys in ZERO.values() for key in keys}
    assert theirs == allowed | (REFUSED.keys() & theirs) | PASSED_OVER
    assert not allowed & (REFUSED.keys() | PASSED_OVER)
    assert not OWNED.keys() & allowed


def test_a_file_of_ones_own_is_laid_over_the_shipped_one_of_its_stage(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "zero_optimization": {"stage": 3, "stage3_prefetch_bucket_size": 5e6},
            "csv_monitor": {"enabled": True, "output_path": "told"},
            "steps_per_print": 10,
        },
    )
    mine, shipped = systems_config(path), systems_config("zero3")
    assert mine == shipped | {
        "zero_optimization": shipped["zero_optimization"] | {"stage3_prefetch_bucket_size": 5_000_000},
        "csv_monitor": {"enabled": True, "output_path": "told"},
        "steps_per_print": 10,
    }
    assert type(mine["zero_optimization"]["stage3_prefetch_bucket_size"]) is int
    assert mine["zero_optimization"]["overlap_comm"] is False, "where DeepSpeed itself would turn it on"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"stage": "two"}, "zero_optimization.stage to 'two': it must be a whole number from 0 to 3."),
        ({"stage": 4}, "zero_optimization.stage to 4: it must be a whole number from 0 to 3."),
        ({"stage": True}, "zero_optimization.stage to True: it must be a whole number from 0 to 3."),
        ({"stage": None}, "zero_optimization.stage to None: it must be a whole number from 0 to 3."),
        (
            {"stage": 1, "reduce_bucket_size": "5e8"},
            "zero_optimization.reduce_bucket_size to '5e8': it must be a whole number of 1 or more.",
        ),
        (
            {"stage": 1, "reduce_bucket_size": float("inf")},
            "zero_optimization.reduce_bucket_size to inf: it must be a whole",
        ),
        ({"stage": 2, "overlap_comm": "plenty"}, "zero_optimization.overlap_comm to 'plenty': it must be true or fal"),
        ({"stage": 2, "reduce_scatter": 1}, "zero_optimization.reduce_scatter to 1: it must be true or false."),
        ({"stage": 1, "overlap_comm": True}, "zero_optimization.overlap_comm to True: it must be false under ZeRO-1,"),
        ("on", "zero_optimization to 'on': it must be an object."),
    ],
)
def test_a_value_that_its_key_does_not_take_is_named_with_what_it_takes(
    values: object, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        systems_config(written(tmp_path, {"zero_optimization": values}))
    assert f"mine.json sets {told}" in str(caught.value)


def test_values_of_what_deepspeed_tells_are_checked_too(tmp_path: Path) -> None:
    for key, value, told in (
        ("steps_per_print", "often", "sets steps_per_print to 'often': it must be a whole number of 1 or more."),
        ("wandb", True, "sets wandb to True: it must be an object."),
        ("wandb", {"enabled": "yes"}, "sets wandb.enabled to 'yes': it must be true or false."),
        ("wandb", {"projekt": "x"}, "sets wandb.projekt, which means nothing here. Did you mean 'project'?"),
        ("comms_logger", {"prof_ops": "all"}, "sets comms_logger.prof_ops to 'all': it must be a list of names."),
    ):
        with pytest.raises(ConfigError) as caught:
            systems_config(written(tmp_path, {"zero_optimization": {"stage": 1}, key: value}))
        assert told in str(caught.value)


def test_a_file_without_a_stage_is_refused(tmp_path: Path) -> None:
    for content in ({}, {"zero_optimization": {"overlap_comm": False}}):
        with pytest.raises(ConfigError, match="lacks zero_optimization.stage. Set it to a whole number from 0 to 3"):
            systems_config(written(tmp_path, content))


def test_a_key_that_deepspeed_would_pass_over_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="zero_optimisation, which means nothing here. Did you mean 'zero_optimizat"):
        systems_config(written(tmp_path, {"zero_optimisation": {"stage": 1}}))
    with pytest.raises(ConfigError, match="zero_optimization.overlap_com, which means nothing here. Did you mean 'ove"):
        systems_config(zero(tmp_path, stage=2, overlap_com=True))
    with pytest.raises(ConfigError, match="allgather_bucket_size, which is of ZeRO stage 0, 1, 2 alone. Remove"):
        systems_config(zero(tmp_path, stage=3, allgather_bucket_size=5))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("offload_optimizer", {"device": "cpu"}, "which DeepSpeed allows with its own optimizers only"),
        ("offload_param", {"device": "cpu"}, "which DeepSpeed allows with its own optimizers only"),
        ("zero_quantized_gradients", True, "which sends numbers in fewer bits"),
        ("zero_quantized_weights", True, "which sends numbers in fewer bits"),
        ("zero_hpz_partition_size", 8, "which parts weights over some of the ranks"),
        ("mics_shard_size", 8, "which parts weights over some of the ranks"),
        ("round_robin_gradients", True, "lays weights out otherwise than they are published"),
        ("compute_grad_norm", False, "by which a gradient that isn't finite is seen"),
    ],
)
def test_what_would_change_a_result_or_can_not_work_is_refused_with_the_reason(
    key: str, value: object, reason: str, tmp_path: Path
) -> None:
    path = zero(tmp_path, stage=3, **{key: value})
    with pytest.raises(ConfigError) as caught:
        systems_config(path)
    assert f"The DeepSpeed config {path} sets zero_optimization.{key}, " in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(".")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"pretraining.deepspeed is 'zero_3': no config .* Did you mean 'zero3'\?"):
        systems_config("zero_3")


def test_a_name_like_none_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="Known: zero0, zero1, zero2, zero3"):
        systems_config("qqq")


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "{'stage': 1}")
    with pytest.raises(ConfigError, match=r"mine.json can't be read as JSON"):
        systems_config(path)


def test_a_file_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must hold one JSON object"):
        systems_config(written(tmp_path, ["zero1"]))
