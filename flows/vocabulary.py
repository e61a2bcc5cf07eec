"""The vocabulary flow: a task for each shard whose words are counted."""

from prefect import flow

from flows.mapping import task_map
from flows.parameters import Run
from flows.reporting import report_artifact, report_fit
from pipeline.stages import run_stage


@flow(name="vocabulary", flow_run_name="vocabulary of {run.preset}", persist_result=False)
def vocabulary(run: Run, corpus: str | None = None) -> str:
    """Learn a WordPiece vocabulary from the corpus (None: the preset's own); returns the artifact's reference."""
    store = run.store()
    given = {"corpus": corpus} if corpus else {}
    made = run_stage("vocabulary", run.resolved(), store, given, map=task_map, force=run.force)
    report_artifact(store, made)
    report_fit(store, made)
    return made.reference
