"""Who may import whom: the floors of the house are the order of the data."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {
        "pipeline",
        "pipeline.compiled",
        "pipeline.config",
        "pipeline.errors",
        "pipeline.mapping",
        "pipeline.progress",
        "pipeline.settings",
    },
    {"pipeline.store"},
    {"pipeline.corpus"},
    {"pipeline.vocabulary"},
    {"pipeline.dataset"},
    {"pipeline.launching"},
    {"pipeline.pretraining"},
    {"pipeline.evaluation"},
    {"pipeline.stages", "pipeline.cli", "pipeline.cli_store", "pipeline.__main__"},
    {"flows"},
    {"flows.cli"},
]
SOURCES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("flows/**/*.py")])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> int:
    """The floor of the longest prefix of `module` that has one."""
    while module:
        for number, rooms in enumerate(FLOORS):
            if module in rooms:
                return number
        module = module.rpartition(".")[0]
    raise AssertionError("every module of the project has a floor")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_down_the_floors_only(path: Path) -> None:
    if module_of(path) == "pipeline":
        return  # `pipeline.load` is the whole library's front door, and imports inside the function
    here = floor_of(module_of(path))
    for name in imports_of(path):
        if name.split(".")[0] in {"pipeline", "flows"}:
            assert floor_of(name) <= here, f"{module_of(path)} (floor {here}) imports {name} (floor {floor_of(name)})"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "pipeline")], ids=module_of)
def test_the_library_never_imports_prefect(path: Path) -> None:
    assert not {name for name in imports_of(path) if name.split(".")[0] == "prefect"}


HEAVY = {
    "torch",
    "prefect",
    "transformers",
    "deepspeed",
    "datasets",
    "sklearn",
    "numba",
    "pyarrow",
    "boto3",
    "botocore",
}


@pytest.mark.parametrize(
    "statement",
    [
        "import pipeline.config",
        "import pipeline.cli",
        "import pipeline.cli_store",
        "import flows.cli",
        "from pipeline.store import open_store",
    ],
)
def test_a_light_import_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
