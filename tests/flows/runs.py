"""What the Prefect server tells of runs."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun


def artifacts_of(run: UUID | str | None) -> list[Artifact]:
    """What a flow run shows beside its log."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(str(run))]))
    with client() as api:
        return api.read_artifacts(artifact_filter=wanted)


def tasks_of(run: UUID | str | None) -> list[TaskRun]:
    """The tasks of a flow run."""
    with client() as api:
        return api.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(run))])))


def runs_named(name: str) -> list[FlowRun]:
    """All flow runs of that name."""
    with client() as api:
        return api.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))


def client() -> SyncPrefectClient:
    return get_client(sync_client=True)
