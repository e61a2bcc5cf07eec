"""Two ranks under any ZeRO stage train as one process with transformers' BERT and an AdamW written out."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch
from pipeline.dataset.samples import Samples
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.weights.export import hugging_face_config, to_hugging_face
from pipeline.store import Artifact
from tests.dataset.reading import training_batches
from tests.small import Small

MICRO_BATCHES = {"zero0": 15, "zero1": 4, "zero2": 7, "zero3": 2}
"""Samples a rank takes at once: one, four, three and eight micro-batches a step."""


@dataclass(frozen=True)
class Reference:
    """What a plain loop reached."""

    curve: list[dict[str, float]]
    first: dict[str, Tensor]
    last: dict[str, Tensor]


@pytest.fixture(scope="module")
def reference(small: Small, tiny: PretrainingConfig) -> Reference:
    return plain_loop(small, tiny)


def plain_loop(small: Small, config: PretrainingConfig) -> Reference:
    """One process, whole padded batches, no DeepSpeed, no torch.optim."""
    samples = Samples(small.store, small.dataset)
    size = small.store.manifest(small.dataset).totals["vocabulary_size"]
    model = transformers.BertForPreTraining(transformers.BertConfig(**hugging_face_config(config, size)))
    initial = to_hugging_face(BertForPreTraining(config, size).state_dict(), config, size)
    model.load_state_dict(initial, strict=False)
    model.tie_weights()
    parameters = dict(model.named_parameters())
    first_moment = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    second_moment = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    curve = []
    for step in range(config.max_steps):
        count = config.train_batch_size
        (batch,) = training_batches(
            samples, step, train_batch_size=count, micro_batch_size=count, seed=config.seed, rank=0, world=1
        )
        loss, accuracy = loss_and_accuracy(model, batch)
        gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))
        norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
        scale = min(1.0, config.gradient_clipping / float(norm))
        rise = (step + 1) / config.warmup_steps
        fall = (config.max_steps - step) / (config.max_steps - config.warmup_steps)
        rate = config.learning_rate * min(rise, fall)
        with torch.no_grad():
            for name, parameter in parameters.items():
                gradient = gradients[name] * scale
                first_moment[name].lerp_(gradient, 1 - config.adam_beta1)
                second_moment[name].lerp_(gradient.square(), 1 - config.adam_beta2)
                mean = first_moment[name] / (1 - config.adam_beta1 ** (step + 1))
                variance = second_moment[name] / (1 - config.adam_beta2 ** (step + 1))
                if not name.endswith("bias") and "LayerNorm" not in name:
                    parameter -= rate * config.weight_decay * parameter
                parameter -= rate * mean / (variance.sqrt() + config.adam_epsilon)
        curve.append({"loss": float(loss.detach()), "gradient_norm": float(norm), "masked_lm_accuracy": accuracy})
    return Reference(curve, initial, {name: parameters[name].detach() for name in initial})


def loss_and_accuracy(model: Any, batch: Batch) -> tuple[Tensor, float]:
    """Transformers' own loss of the padded batch: a mean over its masked tokens and one over its samples."""
    labels = torch.full((len(batch.input_ids),), -100)
    labels[torch.from_numpy(batch.masked_positions)] = torch.from_numpy(batch.masked_lm_labels)
    columns = (batch.input_ids, batch.token_type_ids, torch.ones_like(labels).numpy(), labels.numpy())
    ids, types, mask, labels = (
        torch.nn.utils.rnn.pad_sequence(torch.from_numpy(values).split(batch.lengths.tolist()), True, fill)
        for values, fill in zip(columns, (0, 0, 0, -100))
    )
    out = model(
        input_ids=ids,
        token_type_ids=types,
        attention_mask=mask,
        labels=labels,
        next_sentence_label=torch.from_numpy(batch.next_sentence_label),
    )
    right = (out.prediction_logits.argmax(-1) == labels)[labels != -100]
    return out.loss, float(right.double().mean())


def curve_of(small: Small, artifact: Artifact) -> list[dict[str, Any]]:
    return [json.loads(line) for line in small.store.file(artifact, "curve.jsonl").read_text().splitlines()]


@pytest.fixture(params=MICRO_BATCHES)
def trained(request: pytest.FixtureRequest, training: Any) -> Artifact:
    artifact: Artifact = training(deepspeed=request.param, train_micro_batch_size_per_gpu=MICRO_BATCHES[request.param])
    return artifact


def test_the_reference_learns_clips_and_crosses_into_a_second_epoch(
    reference: Reference, small: Small, tiny: PretrainingConfig
) -> None:
    assert reference.curve[-1]["loss"] < reference.curve[0]["loss"] - 0.3, "else equal losses would say little"
    assert sum(line["gradient_norm"] > tiny.gradient_clipping for line in reference.curve) > 3
    assert len(Samples(small.store, small.dataset)) < tiny.train_batch_size * tiny.max_steps


def test_two_ranks_give_the_losses_and_accuracies_of_a_plain_loop(
    trained: Artifact, reference: Reference, small: Small
) -> None:
    curve = curve_of(small, trained)
    assert [line["step"] for line in curve] == list(range(len(reference.curve)))
    for key, tolerance in {"loss": 1e-5, "masked_lm_accuracy": 1e-9}.items():
        assert [line[key] for line in curve] == pytest.approx([line[key] for line in reference.curve], rel=tolerance)


def test_two_ranks_measure_the_gradient_norms_of_a_plain_loop(
    trained: Artifact, reference: Reference, small: Small
) -> None:
    norms = [line["gradient_norm"] for line in curve_of(small, trained)]
    assert norms == pytest.approx([line["gradient_norm"] for line in reference.curve], rel=1e-4)


def test_two_ranks_end_with_the_weights_of_a_plain_loop(trained: Artifact, reference: Reference, small: Small) -> None:
    weights = load_file(small.store.file(trained, "model/model.safetensors"))
    assert weights.keys() == reference.last.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(
            tensor, reference.last[name], atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_it_ran_on_two_ranks_under_the_stage_that_was_asked_for(trained: Artifact, small: Small, request: Any) -> None:
    producer = small.store.manifest(trained).producer
    assert producer["world"] == 2
    assert f"zero{producer['zero_stage']}" == request.node.callspec.params["trained"]


@pytest.mark.parametrize("stage", ["zero1", "zero2"])
def test_bf16_stays_finite_and_near_the_losses_in_fp32(
    stage: str, training: Any, reference: Reference, small: Small
) -> None:
    artifact = training(deepspeed=stage, train_micro_batch_size_per_gpu=MICRO_BATCHES[stage], precision="bf16")
    losses = [line["loss"] for line in curve_of(small, artifact)]
    expected = [line["loss"] for line in reference.curve]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses != pytest.approx(expected, rel=1e-6), "it wasn't fp32"
    assert losses == pytest.approx(expected, rel=0.02)
    weights = load_file(small.store.file(artifact, "model/model.safetensors"))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_the_curve_is_free_of_time_so_that_equal_trainings_have_equal_bytes(
    training: Any, small: Small, tiny: PretrainingConfig
) -> None:
    curve = curve_of(small, training(deepspeed="zero1", train_micro_batch_size_per_gpu=4))
    assert set(curve[0]) == {
        "step", "loss", "masked_lm_loss", "masked_lm_accuracy", "next_sentence_loss", "next_sentence_accuracy",
        "gradient_norm", "learning_rate", "tokens",
    }  # fmt: skip
    assert [line["loss"] for line in curve] == pytest.approx(
        [line["masked_lm_loss"] + line["next_sentence_loss"] for line in curve]
    )
    assert Path(small.store.settings.home, "logs").is_dir(), "what depends on time is there"
