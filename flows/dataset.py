"""The dataset flow: a task for each shard of documents that is made into samples."""

from prefect import flow

from flows.mapping import task_map
from flows.parameters import Run
from flows.reporting import report_artifact, report_card
from pipeline.stages import run_stage


@flow(name="dataset", flow_run_name="dataset of {run.preset}", persist_result=False)
def dataset(run: Run, corpus: str | None = None, vocabulary: str | None = None) -> str:
    """Make samples of corpus and vocabulary (None: the preset's own); returns the artifact's reference."""
    store = run.store()
    inputs = {"corpus": corpus, "vocabulary": vocabulary}
    given = {kind: reference for kind, reference in inputs.items() if reference}
    made = run_stage("dataset", run.resolved(), store, given, map=task_map, force=run.force)
    report_artifact(store, made)
    report_card(store, made)
    return made.reference
