"""The corpus flow: a task for each file of the sources and each shard of documents."""

from prefect import flow

from flows.mapping import task_map
from flows.parameters import Run
from flows.reporting import report_artifact, report_dropped
from pipeline.stages import run_stage


@flow(name="corpus", flow_run_name="corpus of {run.preset}", persist_result=False)
def corpus(run: Run) -> str:
    """Ingest the preset's sources into clean documents, train and held-out; returns the artifact's reference."""
    store = run.store()
    made = run_stage("corpus", run.resolved(), store, map=task_map, force=run.force)
    report_artifact(store, made)
    report_dropped(store, made)
    return made.reference
