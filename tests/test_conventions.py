"""Conventions of the project, as tests."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kedro.framework.project import configure_project, pipelines, settings
from kedro.io import CatalogConfigResolver

from simulacra.experiments import SHARED, ExperimentConfigLoader, load_experiments
from simulacra.models import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src/simulacra").rglob("*.py"))
HEAVY = ("numpy", "torch", "sklearn", "mlflow", "plotly", "matplotlib", "pandas", "PIL")


@pytest.fixture(scope="module")
def registered() -> dict:
    configure_project("simulacra")
    return dict(pipelines)


@pytest.fixture(scope="module", params=["base", "test", "gpu"])
def loader(request: pytest.FixtureRequest) -> ExperimentConfigLoader:
    return ExperimentConfigLoader(str(ROOT / "conf"), env=request.param, **settings.CONFIG_LOADER_ARGS)


def test_stages_families_and_datasets_are_registered(registered: dict) -> None:
    expected = {"ingest", "preprocess", "train", "generate", "evaluate", "augment", "report", "__default__"}
    expected |= {f"train_{family}" for family in FAMILIES} | set(load_experiments())
    assert set(registered) == expected


def test_node_names_are_namespace_and_verb(registered: dict) -> None:
    for node in registered["mnist"].nodes:
        assert re.fullmatch(r"mnist(\.[a-z_]+)?\.[a-z_]+", node.name), node.name
        assert node.namespace in {"mnist", *(f"mnist.{family}" for family in FAMILIES)}


def test_free_inputs_of_each_pipeline_are_the_expected_ones(registered: dict) -> None:
    """A forgotten mapping would invent a path through a catalog pattern, and nobody would notice."""
    for dataset in load_experiments():
        free = {name for name in registered[dataset].inputs() if not name.startswith("params:")}
        assert free == {f"{dataset}.{family}.checkpoints" for family in load_experiments()[dataset].families}
        for family in load_experiments()[dataset].families:
            own = registered[dataset].only_nodes_with_namespaces([f"{dataset}.{family}"])
            shared = {"train_set", "validation_set", "test_set", "split_record"}
            shared |= {"extractor", "extractor_record", "real_accuracy"}
            free = {name for name in own.inputs() if not name.startswith("params:")}
            assert free == {f"{dataset}.{name}" for name in shared} | {f"{dataset}.{family}.checkpoints"}


def test_parameters_that_nodes_read_exist(registered: dict, loader: ExperimentConfigLoader) -> None:
    parameters = loader["parameters"]
    for name in registered["mnist"].inputs() | registered["fashion_mnist"].inputs():
        if name.startswith("params:"):
            value = parameters
            for part in name.removeprefix("params:").split("."):
                assert part in value, name
                value = value[part]


def test_every_configuration_builds(registered: dict, loader: ExperimentConfigLoader) -> None:
    from kedro.validation.parameter_validator import ParameterValidator

    ParameterValidator(registered).validate_raw_params(loader["parameters"])


def test_every_dataset_but_the_summaries_is_kept_on_disk(registered: dict, loader: ExperimentConfigLoader) -> None:
    resolver = CatalogConfigResolver(loader["catalog"])
    root = loader["globals"]["data_root"]
    places: dict[str, str] = {}
    for name in registered["mnist"].datasets():
        if name.startswith("params:") or name.endswith(".summary"):
            continue
        pattern = resolver.match_dataset_pattern(name)
        assert pattern, f"{name} is not in the catalog"
        assert pattern.count("{") == name.count("."), f"{name} is caught by {pattern}, which is not meant for it"
        places[name] = resolver.resolve_pattern(name)["filepath"]
    assert all(place.startswith(f"{root}/") for place in places.values())
    assert len(set(places.values())) == len(places), "two datasets share a path"


def test_environments_hold_deltas_only() -> None:
    base = {key for file in (ROOT / "conf/base/parameters").glob("*.yml") for key in yaml.safe_load(file.read_text())}
    for environment in ("test", "gpu"):
        for file in (ROOT / "conf" / environment).rglob("parameters*.yml"):
            assert set(yaml.safe_load(file.read_text())) <= base, file


def test_one_parameters_file_a_family() -> None:
    files = {file.stem for file in (ROOT / "conf/base/parameters").glob("*.yml")}
    assert files == {"common", "datasets", "evaluation", "augmentation", *FAMILIES}
    assert {file.stem for file in (ROOT / "src/simulacra/models").glob("*.py")} == {
        "__init__",
        "base",
        "neural",
        *FAMILIES,
    }


def test_shared_blocks_stand_in_the_shared_files() -> None:
    shared = {
        key
        for name in ("common", "evaluation", "augmentation")
        for key in yaml.safe_load((ROOT / f"conf/base/parameters/{name}.yml").read_text())
    }
    assert shared == set(SHARED)


def test_building_the_graph_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kedro.framework.project import configure_project, pipelines; configure_project('simulacra');"
        f"dict(pipelines); print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_tests_mirror_sources() -> None:
    """tests/a/test_b.py tests a/b.py, or, named so below, something that is more than one file."""
    wholes = {"test_conventions", "test_run", "test_notebooks", "models/test_contract", "pipelines/test_nodes"}
    wholes |= {"datasets/test_datasets"}
    modules = {path.relative_to(ROOT / "src/simulacra") for path in SOURCES}
    for test in (ROOT / "tests").rglob("test_*.py"):
        place = test.relative_to(ROOT / "tests")
        counterpart = place.with_name(place.name.removeprefix("test_"))
        assert counterpart in modules or str(place.with_suffix("")) in wholes, f"{test} has no counterpart"


def test_no_pickle_anywhere() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "joblib", "dill", "cloudpickle"} & {name.split(".")[0] for name in names}, path
    assert "pickle" not in "".join(file.read_text() for file in (ROOT / "conf").rglob("*.yml"))


def test_telemetry_is_off() -> None:
    assert yaml.safe_load((ROOT / ".telemetry").read_text()) == {"consent": False}
    code = "import simulacra, os; print(os.environ['KEDRO_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "true"


def test_the_readme_s_tree_is_the_tree() -> None:
    """Every line of the tree in README.md names something that is there, and every module is named."""
    tree = re.search(r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert tree, "README.md has no tree"
    stack: list[str] = []
    named = set()
    for line in tree[1].splitlines():
        indent, name = re.match(r"^((?:  )*)(\S+)", line).groups()
        stack = [*stack[: len(indent) // 2], name.rstrip("/")]
        path = ROOT / "/".join(stack)
        assert path.exists(), f"README.md names {path.relative_to(ROOT)}, which is not there"
        named.add(path)
    for path in SOURCES:
        if path.name not in ("__init__.py", "nodes.py", "pipeline.py"):
            assert path in named, f"README.md's tree lacks {path.relative_to(ROOT)}"
