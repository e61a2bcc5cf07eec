"""The evaluation flow: scores, with their controls, as a table in the UI."""

from prefect import flow

from flows.parameters import Run
from flows.reporting import report_artifact, report_scores
from pipeline.stages import run_stage


@flow(name="evaluation", flow_run_name="evaluation of {run.preset}", persist_result=False)
def evaluation(run: Run, pretraining: str | None = None, dataset: str | None = None, corpus: str | None = None) -> str:
    """Score a checkpoint on held-out text and tasks (None: the preset's own); returns the artifact's reference."""
    store = run.store()
    inputs = {"pretraining": pretraining, "dataset": dataset, "corpus": corpus}
    given = {kind: reference for kind, reference in inputs.items() if reference}
    made = run_stage("evaluation", run.resolved(), store, given, force=run.force)
    report_artifact(store, made)
    report_scores(store, made)
    return made.reference
