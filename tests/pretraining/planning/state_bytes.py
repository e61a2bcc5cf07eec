"""Run by ranks: how many bytes of tensors each holds after a backward pass, by precision and ZeRO stage, as JSON."""

import gc
import json
import os
import sys
from typing import Any

import torch
import torch.distributed as dist

from pipeline.config import PretrainingConfig
from pipeline.pretraining.engine import import_deepspeed, initialise
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.planning.rehearsal import made_up_batch
from pipeline.pretraining.systems import systems_config
from tests.pretraining.fp16_worker import let_this_cpu_train_in_fp16

VOCABULARY = 8_192
CONFIG = {"name": "t", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_dropout_prob": 0}


def config_of(precision: str) -> PretrainingConfig:
    return PretrainingConfig.model_validate(CONFIG | {"intermediate_size": 1_024, "precision": precision})


def systems_of(stage: int) -> dict[str, Any]:
    """The shipped config, with buckets no larger than the model."""
    systems = systems_config(f"zero{stage}")
    return systems | {"zero_optimization": systems["zero_optimization"] | {"reduce_bucket_size": 1_000_000}}


def tensors() -> list[torch.Tensor]:
    """All that are reachable, gradients among them."""
    gc.collect()
    found = [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]
    return found + [each.grad for each in found if each.is_leaf and each.grad is not None]


def held(since: list[torch.Tensor]) -> int:
    """Bytes of what wasn't there before."""
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors()}
    old = {each.untyped_storage().data_ptr() for each in since}
    return sum(size for address, size in storages.items() if address not in old)


def main() -> None:
    deepspeed = import_deepspeed()
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    found = {}
    let_this_cpu_train_in_fp16()
    for precision in ("fp32", "bf16", "fp16"):
        config = config_of(precision)
        for stage in range(4):
            before = tensors()  # held on to, so that nothing of it goes meanwhile
            model = BertForPreTraining(config, VOCABULARY)
            engine = initialise(model, config, systems_of(stage), dist.get_world_size())
            for step in range(2):
                losses = engine(TensorBatch.of(made_up_batch([16], VOCABULARY, 0.15), engine.device))
                engine.backward(losses.masked_lm + losses.next_sentence, scale_wrt_gas=False)
                del losses
                if step == 1:  # the moments are made in the first
                    found[f"{precision} {stage}"] = held(before)
                engine.step()
            engine.destroy()
            del engine, model
    if dist.get_rank() == 0:
        sys.stdout.write(f"{json.dumps(found)}\n")
        sys.stdout.flush()
    dist.barrier()  # a rank that ends sooner would break the other's connections
    os._exit(0)  # threads of engines that are gone sometimes abort an orderly end


if __name__ == "__main__":
    main()
