"""What a run is started with: checked like a preset on the command line, and shown as a form."""

import pytest
from pydantic import ValidationError

from flows.parameters import Run
from pipeline.errors import ConfigError
from pipeline.preset import load_preset


def test_a_run_resolves_as_the_command_line_does() -> None:
    run = Run(preset="tiny", overrides=("pretraining.max_steps=100",), name="mine")
    assert run.resolved() == load_preset("tiny", ["pretraining.max_steps=100"], "mine")


def test_a_run_of_nothing_is_the_tiny_preset() -> None:
    assert Run().resolved() == load_preset("tiny")


@pytest.mark.parametrize(
    ("run", "moves"),
    [
        (Run(), True),
        (Run(overrides=("dataset.seed=2",)), False),
        (Run(overrides=("dataset.seed=2",), name="mine"), True),
    ],
)
def test_overrides_without_a_name_leave_latest_alone(run: Run, moves: bool) -> None:
    assert run.store().moves_latest is moves


def test_what_is_wrong_with_the_preset_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="unknown key corpus.lanf. Did you mean 'lang'?"):
        Run(overrides=("corpus.lanf=en",)).resolved()


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Run.model_validate({"presets": "tiny"})


def test_each_field_of_the_form_says_what_it_is() -> None:
    form = Run.model_json_schema()["properties"]
    assert [name for name, field in form.items() if not field.get("description")] == []
    assert form.keys() == {"preset", "overrides", "name", "force"}
