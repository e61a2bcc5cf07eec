"""Training steps of our encoder beside transformers' `BertForPreTraining`: real tokens a second, and share of the peak.

    python benchmarks/pretraining.py --model base --length 128 --mix bert --sides ours,plain,transformers --rounds 3

All sides train on the same made-up samples (lengths as BERT's or uniform, ids as words are distributed) in one process,
turn about, so that a noisy machine is the same to all. Ours goes through DeepSpeed under ZeRO-1, as `bertmill` trains;
`plain` is our model in plain torch with fp32 master weights; the peer is padded to the longest, with SDPA, bf16 by
autocast, fused AdamW and clipping; `transformers-deepspeed` is the peer in DeepSpeed's bf16 under ZeRO-1. Padding
doesn't count as tokens. The peak is that of a large bf16 matrix product on the same device. On a CPU each side has
memory as its own process would: ours keeps what is freed, theirs has it as glibc does by itself. A turn begins by a
step that isn't counted, in which that settles.
"""

import argparse
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch, filled
from pipeline.dataset.dealing import Capacity
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.planning.flops import flops_of
from pipeline.pretraining.planning.rehearsal import matrix_rate, rehearsed_dtype

VOCABULARY = 30_522
MODELS = {
    "small": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
    "base": {},
    "large": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    },
}  # fmt: skip
Step = Callable[[], None]
"""One optimizer step over the micro-batches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--mix", choices=("bert", "uniform"), default="bert")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--sides", default="ours,transformers")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--steps", type=int, default=4, help="of a side in a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    _one_rank()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = PretrainingConfig(
        name="benchmark", precision=given.precision, hidden_dropout_prob=0.0, max_steps=10, **MODELS[given.model]
    )
    batches = made_up(given.micro_batch, given.accumulation, given.length, given.mix)
    tokens = sum(batch.tokens for batch in batches)
    fill = tokens / (given.length * sum(batch.sequences for batch in batches))
    flops = sum(flops_of(config, VOCABULARY, batch) for batch in batches)
    peak = matrix_rate(rehearsed_dtype(config, device), device)
    print(f"{given.model}, length {given.length}, fill {fill:.2f}, {tokens:,} tokens a step, {peak / 1e12:.2f} TFLOP/s")
    sides = {name: SIDES[name](config, batches, device) for name in given.sides.split(",")}
    for name, step in sides.items():
        _as_in_its_own_process(name, device)
        began = time.monotonic()
        for _ in range(3):
            step()
        _wait(device)
        print(f"  {name}: first steps {time.monotonic() - began:.1f} s", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, step in sides.items():
            _as_in_its_own_process(name, device)
            step()
            _wait(device)
            began = time.perf_counter()
            for _ in range(given.steps):
                step()
            _wait(device)
            rates[name].append(tokens * given.steps / (time.perf_counter() - began))
    first = statistics.median(next(iter(rates.values())))
    for name, each in rates.items():
        rate = statistics.median(each)
        spread = (max(each) - min(each)) / rate
        share = rate * flops / tokens / peak
        print(
            f"  {name:24} {rate:12,.0f} tokens/s ±{spread:.0%}  {share:.1%} of the peak; ours: {first / rate:.2f} times"
        )
    print(json.dumps({"case": vars(given), "rates": rates, "peak": peak}))


def made_up(micro_batch: int, count: int, length: int, mix: str) -> list[Batch]:
    """Micro-batches of samples with 15 % of their tokens predicted."""
    random = np.random.default_rng(1)
    batches = []
    for _ in range(count):
        short = random.integers(8, length + 1, micro_batch)
        is_short = random.random(micro_batch) < (0.26 if mix == "bert" else 1.0)  # a fill of .87 at 128
        lengths = np.where(is_short, short, length).astype(np.int32)
        total = int(lengths.sum())
        starts = np.concatenate(([0], np.cumsum(lengths)))[:-1]
        masked = np.concatenate(
            [
                start + np.sort(random.choice(size, max(1, round(0.15 * size)), replace=False))
                for start, size in zip(starts.tolist(), lengths.tolist(), strict=True)
            ]
        )
        ids = np.minimum(999 + random.zipf(1.2, total), VOCABULARY - 1)
        positions = np.arange(total) - np.repeat(starts, lengths)
        batches.append(
            Batch(
                input_ids=ids,
                token_type_ids=(positions > np.repeat(lengths // 2, lengths)).astype(np.int64),
                position_ids=positions,
                lengths=lengths,
                masked_positions=masked,
                masked_lm_labels=ids[masked],
                next_sentence_label=random.integers(0, 2, micro_batch),
                indices=np.arange(micro_batch),
                datasets=np.zeros(micro_batch, np.int64),
            )
        )
    return batches


def ours(config: PretrainingConfig, batches: list[Batch], device: torch.device) -> Step:
    """Through DeepSpeed, clipped and guarded, as the training loop does it."""
    from pipeline.pretraining.engine import initialise
    from pipeline.pretraining.guard import Guard
    from pipeline.pretraining.systems import systems_config

    model = BertForPreTraining(config, VOCABULARY)
    engine = initialise(model, config, systems_config("zero1"), 1)
    guard = Guard(engine, config.gradient_clipping)
    fixed = _fixed(batches, device)
    predictions, sequences = sum(b.predictions for b in batches), sum(b.sequences for b in batches)

    def step() -> None:
        sums = torch.zeros(4, dtype=torch.float64, device=device)
        for batch in fixed:
            losses = engine(TensorBatch.of(batch, device))
            loss = losses.masked_lm / predictions + losses.next_sentence / sequences
            engine.backward(guard.scaled(loss), scale_wrt_gas=False)
            sums += torch.stack([each.detach().double() for each in losses])
        guard.step(sums[:2])

    return step


def plain(config: PretrainingConfig, batches: list[Batch], device: torch.device) -> Step:
    """The same model in plain torch, with fp32 master weights."""
    from pipeline.pretraining.optimizer import make_optimizer

    model = BertForPreTraining(config, VOCABULARY).to(device)
    if device.type == "cuda":
        model.compile_regions(rehearsed_dtype(config, device))
    low = config.precision == "bf16"
    weights = list(model.parameters())
    optimizer = make_optimizer(model, config)
    if low:
        model.bfloat16()  # in place: `optimizer` must hold fp32 copies
        masters = {weight: weight.detach().float().requires_grad_() for weight in weights}
        for group in optimizer.param_groups:
            group["params"] = [masters[weight] for weight in group["params"]]
    held = [masters[weight] for weight in weights] if low else weights
    fixed = _fixed(batches, device)
    predictions, sequences = sum(b.predictions for b in batches), sum(b.sequences for b in batches)

    def step() -> None:
        for batch in fixed:
            losses = model(TensorBatch.of(batch, device))
            (losses.masked_lm / predictions + losses.next_sentence / sequences).backward()
            if low:
                _accumulate(weights, held)
        torch.nn.utils.clip_grad_norm_(held, config.gradient_clipping, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        if low:
            torch._foreach_copy_([weight.data for weight in weights], [each.data for each in held])

    return step


def _accumulate(weights: list[Tensor], masters: list[Tensor]) -> None:
    """Move gradients into fp32."""
    if masters[0].grad is None:
        for weight, master in zip(weights, masters, strict=True):
            master.grad = weight.grad.float()  # type: ignore[union-attr]
    else:
        torch._foreach_add_([master.grad for master in masters], [weight.grad for weight in weights])
    for weight in weights:
        weight.grad = None


def _fixed(batches: list[Batch], device: torch.device) -> list[Batch]:
    """On a GPU in buffers of one size, as `dealt` fills them."""
    if device.type != "cuda":
        return batches
    most = max(batch.tokens for batch in batches)
    longest = max(int(batch.lengths.max()) for batch in batches)
    tokens = -(-int(most * 1.01) // 8) * 8
    capacity = Capacity(
        tokens,
        max(len(batch.lengths) for batch in batches) + -(-tokens // longest),
        int(max(batch.predictions for batch in batches) * 1.02),
        longest,
    )
    return [filled(batch, capacity) for batch in batches]


def transformers_plain(config: PretrainingConfig, batches: list[Batch], device: torch.device) -> Step:
    """Transformers' model as its Trainer runs it."""
    model = _theirs(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    inputs = [_padded(batch, device) for batch in batches]
    low = config.precision == "bf16"

    def step() -> None:
        for each in inputs:
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                loss = model(**each).loss
            (loss / len(inputs)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def transformers_deepspeed(config: PretrainingConfig, batches: list[Batch], device: torch.device) -> Step:
    """Transformers' model in DeepSpeed, ZeRO-1, bf16, as its Trainer hands it over."""
    from pipeline.pretraining.engine import import_deepspeed
    from pipeline.pretraining.systems import systems_config

    model = _theirs(config)
    low = config.precision == "bf16"
    settings = systems_config("zero1") | {
        "train_micro_batch_size_per_gpu": len(batches[0].lengths),
        "gradient_accumulation_steps": len(batches),
        "gradient_clipping": 1.0,
        "communication_data_type": "fp32",
        "bf16": {"enabled": low},
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    engine, *_ = import_deepspeed().initialize(model=model, optimizer=optimizer, config=settings)
    inputs = [_padded(batch, device) for batch in batches]

    def step() -> None:
        for each in inputs:
            engine.backward(engine(**each).loss)
            engine.step()

    return step


def _theirs(config: PretrainingConfig) -> Any:
    import transformers

    shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    theirs = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
        **{name: getattr(config, name) for name in shape},
    )
    return transformers.BertForPreTraining(theirs).train()


def _padded(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The batch as transformers takes it."""
    shape = len(batch.lengths), int(batch.lengths.max())
    is_real = np.arange(shape[1]) < batch.lengths[:, None]
    labels = np.full(batch.tokens, -100)
    labels[batch.masked_positions] = batch.masked_lm_labels

    def spread(values: npt.NDArray[np.int64], fill: int) -> Tensor:
        out = np.full(shape, fill, np.int64)
        out[is_real] = values
        return torch.from_numpy(out).to(device)

    return {
        "input_ids": spread(batch.input_ids, 0),
        "token_type_ids": spread(batch.token_type_ids, 0),
        "attention_mask": torch.from_numpy(is_real.astype(np.int64)).to(device),
        "labels": spread(labels, -100),
        "next_sentence_label": torch.from_numpy(batch.next_sentence_label).to(device),
    }


def _one_rank() -> None:
    from pipeline.pretraining.engine import import_deepspeed

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    import_deepspeed().init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)


def _as_in_its_own_process(side: str, device: torch.device) -> None:
    """Memory as the worker sets it, or as glibc comes to have it where nothing is set: both limits at their most."""
    from pipeline.pretraining.allocator import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory

    if device.type != "cpu":
        return
    if side in ("ours", "plain"):
        keep_freed_memory()
    elif mallopt := getattr(libc := ctypes.CDLL(None), "mallopt", None):
        mallopt(MMAP_THRESHOLD, 32 << 20)
        mallopt(TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


SIDES: dict[str, Callable[[PretrainingConfig, list[Batch], torch.device], Step]] = {
    "ours": ours,
    "plain": plain,
    "transformers": transformers_plain,
    "transformers-deepspeed": transformers_deepspeed,
}

if __name__ == "__main__":
    main()
