"""The shipped prefect.yaml on a real server: each flow a deployment whose parameters are a form."""

from pathlib import Path

import pytest

from pipeline.config import STAGES
from tests.flows.conftest import User
from tests.flows.runs import client

ROOT = Path(__file__).parents[2]


def test_every_flow_is_deployed_as_the_readme_says(user: User, here: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in (
        "work-pool create bertmill --type process",
        "deploy --all --prefect-file infra/prefect.yaml",
    ):
        assert f"prefect {words}" in (ROOT / "infra/README.md").read_text(encoding="utf-8")
        status, out, err = user.call(*words.split(), module="prefect")
        assert status == 0, out + err
    with client() as api:
        made = {each.name: each for each in api.read_deployments()}
        by_flow = {api.read_flow(each.flow_id).name: each for each in api.read_deployments()}
    assert made.keys() == {"default"}
    assert by_flow.keys() == {"end-to-end", *STAGES}
    for deployment in by_flow.values():
        assert deployment.work_pool_name == "bertmill"
        assert deployment.parameters == {"run": {"preset": "tiny"}}
        form = deployment.parameter_openapi_schema["definitions"]["Run"]["properties"]
        assert form["overrides"]["description"].startswith("table.key=value")
    whole = by_flow["end-to-end"]
    assert whole.global_concurrency_limit is not None
    assert whole.global_concurrency_limit.limit == 1
    assert [schedule.active for schedule in whole.schedules] == [False], "nothing starts by itself"
