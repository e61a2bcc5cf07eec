"""The library's commands: the stages and the presets here, the store's in cli_store.py, which adds them.

Progress and logs go to standard error; what a command answers goes to standard output, and the last line of a stage is
its reference. A user's mistake is one sentence and exit status 2.
"""

import logging
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

from pipeline.config import INPUTS, STAGES
from pipeline.errors import BertmillError
from pipeline.preset import load_preset, shipped_presets
from pipeline.progress import show_line
from pipeline.settings import Settings

INTERRUPTED = 130
"""The exit status that typer gives an interrupt: 128 + SIGINT."""
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Text goes in, a pretrained and evaluated BERT encoder comes out.",
)
PresetArgument = Annotated[
    str, typer.Argument(metavar="PRESET", help="A shipped preset's name, or the path of a .toml.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a value; may be given often.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name all artifacts of this run so.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Make another, beside what is found.")]


def main(application: typer.Typer) -> None:
    """Run the command line; a BertmillError is one sentence on standard error and its exit status."""
    set_up_logging()
    try:
        application()
    except BertmillError as error:
        sys.stderr.write(f"bertmill: {error}\n")
        raise SystemExit(error.exit_status) from None
    except SystemExit as done:
        if done.code == INTERRUPTED:
            sys.stderr.write("bertmill: interrupted; run the same command again to go on.\n")
        raise


class _Lines(logging.Handler):
    """The log as lines above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        show_line(self.format(record))


def set_up_logging() -> None:
    """The library's log as plain lines on standard error."""
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("bertmill")
    log.setLevel(logging.INFO)
    log.addHandler(handler)


def print_version(value: bool) -> None:
    if value:
        typer.echo(f"bertmill {version('bertmill')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    pass


STAGE_HELP = {
    "corpus": "Text in, clean documents out: train and held-out.",
    "vocabulary": "Learn a WordPiece vocabulary from the corpus.",
    "dataset": "Make masked-LM and next-sentence samples of the corpus.",
    "pretraining": "Train an encoder on the dataset, from where a killed run was.",
    "evaluation": "Score a checkpoint on held-out text and tasks, next to controls.",
}


OVERFIT = "overfit_one_batch"


def _stage_command(stage: str) -> Callable[..., None]:
    """The command of a stage, with an option for each of its inputs."""

    def command(
        preset: PresetArgument,
        overrides: SetOption = None,
        name: NameOption = None,
        force: ForceOption = False,
        **inputs: str | None,
    ) -> None:
        from pipeline.mapping import process_map
        from pipeline.stages import run_stage
        from pipeline.store import open_store

        settings = Settings.from_environment()
        resolved = load_preset(preset, overrides or (), name)
        store = open_store(settings, moves_latest=moves_latest(overrides, name))
        overfits = bool(inputs.pop(OVERFIT, None))
        given = {kind: reference for kind, reference in inputs.items() if reference}
        if overfits:
            from pipeline.pretraining.overfit import overfit_one_batch
            from pipeline.stages import find_input

            dataset = find_input("dataset", resolved, store, given)
            overfit_one_batch(resolved.pretraining, dataset, store=store, tell=typer.echo)
            return
        store.check_writable()
        with process_map(settings.workers or 1) as mapped:
            made = run_stage(stage, resolved, store, given, map=mapped, force=force)
        if stage == "evaluation":
            print_scores(store.manifest(made).metrics)
        typer.echo(made.reference)

    another = "Another {} than the preset's own, as a reference."
    options = {kind: Annotated[str | None, typer.Option(help=another.format(kind))] for kind in INPUTS[stage]}
    own = [each for each in signature(command).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    more = [Parameter(kind, Parameter.KEYWORD_ONLY, default=None, annotation=options[kind]) for kind in options]
    if stage == "pretraining":
        options[OVERFIT] = Annotated[
            bool, typer.Option(help="Train on the first batch alone, to see a bad loss; keep nothing.")
        ]
        more.append(Parameter(OVERFIT, Parameter.KEYWORD_ONLY, default=False, annotation=options[OVERFIT]))
    command.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
    command.__annotations__ |= options
    command.__doc__ = STAGE_HELP[stage]
    return command


def moves_latest(overrides: list[str] | None, name: str | None) -> bool:
    """A run with overrides and no name of its own leaves the preset's `latest` alone."""
    return not overrides or name is not None


for _stage in STAGES:
    app.command(_stage, rich_help_panel="Stages, without Prefect")(_stage_command(_stage))


@app.command(rich_help_panel="Presets")
def presets() -> None:
    """The presets that come with bertmill."""
    for name in shipped_presets():
        typer.echo(f"{name:12} {load_preset(name).description}")


@app.command(rich_help_panel="Presets")
def config(preset: PresetArgument, overrides: SetOption = None, name: NameOption = None) -> None:
    """The preset as it resolves, every value written out, as TOML."""
    typer.echo(as_toml(load_preset(preset, overrides or (), name).model_dump(mode="json", exclude_none=True)), nl=False)


def as_toml(tables: dict[str, Any]) -> str:
    """A preset's values as TOML: plain values first, then its tables."""
    lines = _toml_pairs({key: value for key, value in tables.items() if not isinstance(value, dict)})
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{_toml_key(name)}]", *_toml_pairs(table)]
    return "\n".join(lines) + "\n"


def _toml_pairs(values: dict[str, Any]) -> list[str]:
    """TOML has no null: what is None is left out."""
    return [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in values.items() if value is not None]


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    import json

    if isinstance(value, dict):
        return "{ " + ", ".join(_toml_pairs(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@app.command(rich_help_panel="Presets")
def plan(
    preset: PresetArgument,
    devices: Annotated[
        int, typer.Option("--devices", metavar="N", min=1, help="On so many GPUs, or machines without.")
    ] = 1,
    price: Annotated[float | None, typer.Option(metavar="P", min=0, help="Of a device for an hour.")] = None,
    speed: Annotated[
        float | None,
        typer.Option(metavar="TOKENS/S", min=1, help="Of a device in the first phase; without, it is measured here."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Another dataset than the preset's own, as a reference.")] = None,
    overrides: SetOption = None,
) -> None:
    """What its training will take, before anything runs: steps, tokens, disk, memory, hours, cost."""
    from pipeline.pretraining.planning.costing import costs_of
    from pipeline.pretraining.planning.forecast import plan_training
    from pipeline.pretraining.planning.summary import phase_rows, plan_rows
    from pipeline.stages import made_input
    from pipeline.store import open_store

    resolved, store = load_preset(preset, overrides or ()), open_store(Settings.from_environment())
    given = {"dataset": dataset} if dataset else {}
    made = made_input("dataset", resolved, store, given)
    corpus = made_input("corpus", resolved, store, given) if made is None else None
    planned = plan_training(resolved, store, dataset=made, corpus=corpus, devices=devices)
    costs = costs_of(planned, tokens_per_second=speed)
    print_table(phase_rows(planned, costs))
    typer.echo()
    print_table(plan_rows(planned, costs, price))


def print_scores(scores: dict[str, Any]) -> None:
    """The scores as a table on standard output."""
    from pipeline.evaluation.summary import score_rows

    print_table(score_rows(scores))


def print_table(rows: list[dict[str, str]]) -> None:
    """Rows with the same keys as a table on standard output."""
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False)
    for heading in rows[0] if rows else ():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console(width=None if sys.stdout.isatty() else 160, markup=False).print(table)
