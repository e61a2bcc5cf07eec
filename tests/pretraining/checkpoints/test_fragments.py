"""What one ZeRO stage has left, every other takes up: bit for bit the same stage, within rounding another."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import PretrainingConfig
from tests.small import Small, untrained_copy

BEGUN_AT, STEPS = 4, 8
TOLERANCE = {"fp32": 1e-6, "bf16": 1e-3, "fp16": 1e-4}


@pytest.fixture
def curves(rounds: int, precision: str, small: Small, tiny: PretrainingConfig, tmp_path: Path) -> dict[str, Any]:
    """Trainings on two ranks under each stage, and those gone on with from the middle under `rounds` stages."""
    untrained_copy(small, tmp_path / "home")
    changes = {"precision": precision, "max_steps": STEPS, "checkpoint_every": BEGUN_AT}
    config = tiny.model_copy(update=changes | {"train_micro_batch_size_per_gpu": 4})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    command = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", *command, "-m", "tests.pretraining.checkpoints.moves", str(tmp_path), str(rounds)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads((tmp_path / "curves.json").read_text())
    return found


@pytest.mark.long(2, 4)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_checkpoint_of_any_stage_is_gone_on_with_under_any_other(curves: dict[str, Any], precision: str) -> None:
    assert {move.split("->")[0] for move in curves} == {"0", "1", "2", "3"}
    for move in (each for each in curves if "->" in each):
        begun, stage = move.split("->")
        whole, rest = curves[begun], curves[move]
        assert [line["step"] for line in rest[:-1]] == list(range(BEGUN_AT, STEPS)), move
        if begun == stage:
            assert rest == whole[BEGUN_AT:], f"{move} is bit for bit the same, and so are the weights at the end"
        expected = [line["loss"] for line in whole[BEGUN_AT:-1]]
        assert [line["loss"] for line in rest[:-1]] == pytest.approx(expected, rel=TOLERANCE[precision]), move
        assert rest[-1]["norm"] == pytest.approx(whole[-1]["norm"], rel=10 * TOLERANCE[precision], abs=1e-4), move
