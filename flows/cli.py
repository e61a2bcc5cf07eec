"""The command `bertmill`: the library's commands, and those that need Prefect."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import ForceOption, NameOption, PresetArgument, SetOption, print_scores
from pipeline.cli import main as library_main
from pipeline.cli_store import app
from pipeline.config import STAGES
from pipeline.errors import ConfigError, nearest
from pipeline.settings import Settings

log = logging.getLogger("bertmill")


def main() -> None:
    """The console script."""
    library_main(app)


@app.command(rich_help_panel="Run")
def run(
    preset: PresetArgument,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help=f"One of {', '.join(STAGES)}.")] = None,
    overrides: SetOption = None,
    name: NameOption = None,
    force: ForceOption = False,
) -> None:
    """All five stages, or `--only` one, as a Prefect flow; what is finished is found, not recomputed."""
    from flows.parameters import Run
    from flows.server import use_server
    from pipeline.stages import check_preset

    if only is not None and only not in STAGES:
        raise ConfigError(f"There is no stage {only!r}. {nearest(only, STAGES)}")
    path = str(Path(preset).expanduser().absolute()) if preset.endswith(".toml") else preset
    parameters = Run(preset=path, overrides=tuple(overrides or ()), name=name, force=force)
    store = parameters.store()
    check_preset(parameters.resolved(), store)
    use_server(Settings.from_environment())
    references, address = _run_flow(parameters, only)
    if references[-1].startswith("evaluation/"):
        print_scores(store.manifest(store.resolve(references[-1])).metrics)
        typer.echo()
    typer.echo(f"The run: {address}  (`bertmill up` opens the server again, `bertmill down` stops it)")
    for reference in references:
        typer.echo(reference)


def _run_flow(parameters: "Run", only: str | None) -> tuple[list[str], str]:  # type: ignore[name-defined] # noqa: F821
    """Run end_to_end, or one stage's flow; returns the artifacts' references and the run's page."""
    from importlib import import_module

    from prefect.utilities.urls import url_for

    module = import_module(f"flows.{only or 'end_to_end'}")
    state = getattr(module, only or "end_to_end")(parameters, return_state=True)
    made = state.result()
    address = url_for("flow-run", obj_id=state.state_details.flow_run_id)
    return ([made] if isinstance(made, str) else made), str(address)


@app.command(rich_help_panel="Run")
def up() -> None:
    """Start the home's Prefect server, unless it runs, and print its address."""
    from flows.server import start_server

    typer.echo(start_server(Settings.from_environment()).address)


@app.command(rich_help_panel="Run")
def down() -> None:
    """Stop the home's Prefect server. Its runs stay in its database."""
    from flows.server import stop_server

    typer.echo("stopped" if stop_server(Settings.from_environment()) else "no server was running")


app.registered_commands.sort(key=lambda command: command.rich_help_panel != "Run")  # what most people came for is first

if __name__ == "__main__":
    main()
