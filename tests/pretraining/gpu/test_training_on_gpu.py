"""A whole training on a GPU: a CPU's within rounding, gone on with bit for bit when it is killed, as large as was said.

`make test-gpu`; regions are compiled anew for each training, so that these take minutes.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import PretrainingConfig
from pipeline.pretraining.overfit import overfit_one_batch
from pipeline.pretraining.planning.lengths import Lengths
from pipeline.pretraining.planning.rehearsal import made_up_batch, needed_memory, rehearsed_model
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Artifact, Store
from tests.pretraining.checkpoints.test_checkpoint import RUN, bytes_of, killed_after
from tests.pretraining.test_loop import curve_of
from tests.small import Small, store_of, untrained_copy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
KINDS = [
    ("bf16", "zero1"),
    ("bf16", "zero0"),
    ("bf16", "zero2"),
    ("bf16", "zero3"),
    ("fp16", "zero1"),
    ("fp32", "zero1"),
]


@pytest.fixture(scope="module")
def config(tiny: PretrainingConfig) -> PretrainingConfig:
    """Heads of 32, for which there are kernels."""
    changes = {"hidden_size": 64, "num_attention_heads": 2, "max_steps": 40, "checkpoint_every": 4}
    return tiny.model_copy(update=changes | {"train_micro_batch_size_per_gpu": 8, "validate_every": 20})


def trained_by_itself(config: PretrainingConfig, store: Store, **variables: str) -> Artifact:
    """In a process of its own, with these variables."""
    command = [sys.executable, "-c", RUN, config.model_dump_json()]
    subprocess.run(command, check=True, env=os.environ | {"BERTMILL_HOME": str(store.settings.home)} | variables)
    return store.resolve("pretraining/tiny@latest")


@pytest.mark.parametrize(("precision", "stage"), KINDS)
def test_a_killed_training_goes_on_bit_for_bit(
    precision: str, stage: str, config: PretrainingConfig, small: Small, tmp_path: Path
) -> None:
    changes = {"precision": precision, "deepspeed": stage, "hidden_dropout_prob": 0.1}
    config = config.model_copy(update=changes)
    undisturbed = pretrain(config, small.dataset, store=small.store, force=True)
    assert small.store.manifest(undisturbed).producer["device"] == "cuda"
    store = untrained_copy(small, tmp_path / "home")
    killed_after(2, config, small, store, within_s=600)  # regions are compiled first
    again = pretrain(config, small.dataset, store=store)
    assert store.manifest(again).producer["resumed_at"] > 0
    assert bytes_of(store, again) == bytes_of(small.store, undisturbed)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_its_losses_are_a_cpus_within_rounding(
    precision: str, config: PretrainingConfig, small: Small, tmp_path: Path
) -> None:
    config = config.model_copy(update={"precision": precision})
    stores = [untrained_copy(small, tmp_path / name) for name in ("gpu", "cpu")]
    made = (
        trained_by_itself(config, stores[0]),
        trained_by_itself(config, stores[1], CUDA_VISIBLE_DEVICES="", BERTMILL_RANKS="1"),
    )
    curves = [curve_of(replace(small, store=store), artifact) for store, artifact in zip(stores, made, strict=True)]
    rounding = 2e-2 if precision == "bf16" else 1e-3
    for ours, theirs in zip(*curves, strict=True):
        assert ours["tokens"] == theirs["tokens"]
        assert ours["masked_lm_loss"] == pytest.approx(theirs["masked_lm_loss"], rel=rounding)


def test_a_micro_batch_takes_the_memory_that_the_rehearsal_says(config: PretrainingConfig) -> None:
    config = config.model_copy(update={"precision": "bf16", "hidden_size": 256, "intermediate_size": 1024})
    device, lengths = torch.device("cuda", torch.cuda.current_device()), Lengths.of(np.full(64, 48))
    model = rehearsed_model(config, 30_522, device)
    needed = needed_memory(model, lengths, 0.15, device)

    from pipeline.pretraining.model.bert import TensorBatch

    batch = TensorBatch.of(made_up_batch([48] * 256, 30_522, 0.15), device)
    for _ in range(2):  # the first compiles
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        losses = model(batch)
        (losses.masked_lm + losses.next_sentence).backward()
    taken = torch.cuda.max_memory_allocated() - before
    assert 0.9 * taken < needed.of(256) < 1.5 * taken


def test_one_batch_is_learned_by_heart(config: PretrainingConfig, small: Small, tmp_path: Path) -> None:
    home = untrained_copy(small, tmp_path / "home").settings.home
    told: list[str] = []
    config = config.model_copy(update={"precision": "bf16"})
    overfit_one_batch(config, small.dataset, store=store_of(home), tell=told.append)
    assert told[-1].startswith("learned by heart")
