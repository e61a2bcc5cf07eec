"""Can it learn at all? One batch, trained on again and again: its loss must go to nothing.

Where it doesn't, no amount of data will help: the learning rate, the model or the labels are wrong. On one device, with
the real engine, without dropout and at a constant rate; nothing is kept.
"""

import logging
import os
from collections.abc import Iterator

from pipeline.config import Plug, PretrainingConfig
from pipeline.errors import TrainingError
from pipeline.pretraining.job import job_of
from pipeline.store import Artifact, Store

STEPS = 200
WARMUP = 10
TOLD_EVERY = 10
LEARNED = 0.1
"""Of its first loss a batch has that is learned by heart."""


def overfit_one_batch(config: PretrainingConfig, dataset: Artifact, store: Store, steps: int = STEPS) -> Iterator[str]:
    """Train on the first step's batch alone; a line now and then, and a verdict.

    Raises TrainingError where it isn't learned.
    """
    import torch

    from pipeline.pretraining.engine import import_deepspeed, initialise, systems_config
    from pipeline.pretraining.guard import Guard
    from pipeline.pretraining.initial import start_from
    from pipeline.pretraining.model import BertForPreTraining, TensorBatch
    from pipeline.pretraining.phases import open_samples, plan_of

    job = job_of(config, dataset, store)
    fixed = {"hidden_dropout_prob": 0.0, "schedule": Plug(name="constant")}
    config = job.config.model_copy(update=fixed)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    deepspeed = import_deepspeed()
    has_gpu = torch.cuda.is_available()
    deepspeed.init_distributed(dist_backend="nccl" if has_gpu else "gloo", verbose=False)
    plan = plan_of(config, open_samples(config, dataset, store), world=1, device="cuda" if has_gpu else "cpu")
    model = BertForPreTraining(config, store.manifest(dataset).totals["vocabulary_size"])
    if job.initial is not None:
        start_from(model, config, job.initial, store.parent(dataset, "vocabulary"), store)
    engine = initialise(model, config, systems_config(config.deepspeed), 1)
    guard = Guard(engine, config.gradient_clipping)
    batches = plan.batches(0, 0)
    predictions, sequences = sum(b.predictions for b in batches), sum(b.sequences for b in batches)
    first = loss = float("nan")
    for step in range(steps):
        for group in engine.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / WARMUP)
        sums = torch.zeros(4, dtype=torch.float64, device=engine.device)
        for batch in batches:
            losses = engine(TensorBatch.of(batch, engine.device))
            pairs = losses.next_sentence / sequences if plan.pairs != "none" else 0.0
            engine.backward(losses.masked_lm / predictions + pairs, scale_wrt_gas=False)
            sums += torch.stack([each.detach().double() for each in losses])
        guard.step(sums[:2])
        masked_lm, next_sentence, right, right_pairs = sums.tolist()
        loss = masked_lm / predictions + (plan.pairs != "none") * next_sentence / sequences
        first = loss if step == 0 else first
        if step % TOLD_EVERY == 0 or step + 1 == steps:
            yield (
                f"step {step:4}: loss {loss:.4f}, masked-LM accuracy {right / predictions:.3f}, "
                f"next-sentence accuracy {right_pairs / sequences:.3f}"
            )
    if not loss < LEARNED * first:
        raise TrainingError(
            f"After {steps} steps on one batch its loss is {loss:.4f}, from {first:.4f}: not learned by heart. Try "
            f"another pretraining.learning_rate ({config.learning_rate:g} now), and look at the batch itself with "
            f"`bertmill show {dataset.reference} --samples 5`."
        )
    yield f"learned by heart: {loss:.4f}, from {first:.4f}. Model, labels and optimizer work together."
