"""The pretraining flow: launches the ranks, and ends with them."""

from prefect import flow

from flows.parameters import Run
from flows.reporting import report_artifact
from pipeline.stages import run_stage


@flow(name="pretraining", flow_run_name="pretraining of {run.preset}", persist_result=False)
def pretraining(run: Run, dataset: str | None = None) -> str:
    """Train an encoder on the dataset (None: the preset's own); returns the artifact's reference."""
    store = run.store()
    given = {"dataset": dataset} if dataset else {}
    made = run_stage("pretraining", run.resolved(), store, given, force=run.force)
    report_artifact(store, made)
    return made.reference
