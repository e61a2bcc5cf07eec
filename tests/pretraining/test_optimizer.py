"""Which parameters decay, and with what AdamW is set up."""

import torch

from pipeline.config import PretrainingConfig
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.optimizer import make_optimizer

CONFIG = PretrainingConfig(
    name="t",
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
    weight_decay=0.25,
    learning_rate=0.5,
    adam_beta1=0.7,
    adam_beta2=0.8,
    adam_epsilon=1e-3,
)


def decays() -> dict[str, float]:
    """Each parameter's weight decay, by name."""
    model = BertForPreTraining(CONFIG, 40)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimizer(model, CONFIG).param_groups
    return {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}


def test_biases_and_layernorm_have_no_decay_and_every_matrix_has() -> None:
    for name, decay in decays().items():
        plain = name.endswith("bias") or "norm" in name
        assert decay == (0.0 if plain else 0.25), name


def test_every_parameter_is_in_one_group_and_the_tied_embedding_once() -> None:
    model = BertForPreTraining(CONFIG, 40)
    grouped = [id(p) for group in make_optimizer(model, CONFIG).param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert decays().keys() == dict(model.named_parameters()).keys()


def test_one_step_is_that_of_a_decoupled_adam_worked_by_hand() -> None:
    model = BertForPreTraining(CONFIG, 40)
    optimizer = make_optimizer(model, CONFIG)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.001)
    optimizer.step()
    # At the first step the corrected moments are g and g², so that the update is lr · g / (|g| + eps) = 0.5 · 1/2.
    matrix, bias = "layers.0.output.weight", "layers.0.output.bias"
    now = dict(model.named_parameters())
    torch.testing.assert_close(now[matrix].detach(), before[matrix] * (1 - 0.5 * 0.25) - 0.25)
    torch.testing.assert_close(now[bias].detach(), before[bias] - 0.25)
