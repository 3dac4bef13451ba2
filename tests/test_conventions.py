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
    expected = {"ingest", "preprocess", "train", "generate", "evaluate", "augment", "explore", "edit", "report"}
    expected |= {"human_study", "human_results", "watch", "retrain", "draw_champion", "__default__"}
    expected |= {f"train_{family}" for family in FAMILIES} | set(load_experiments())
    assert set(registered) == expected


def test_node_names_are_namespace_and_verb(registered: dict) -> None:
    for node in registered["mnist"].nodes:
        assert re.fullmatch(r"mnist(\.[a-z_]+)?\.[a-z_]+", node.name), node.name
        assert node.namespace in {"mnist", *(f"mnist.{family}" for family in FAMILIES)}


SHARED_BY_FAMILIES = {
    "image": {"train_set", "validation_set", "test_set", "extractor", "extractor_record", "real_accuracy"},
    "text": {"train_texts", "validation_texts", "test_texts"},
}
"""What families of a kind take from their dataset."""


def test_free_inputs_of_each_pipeline_are_the_expected_ones(registered: dict) -> None:
    """A forgotten mapping would invent a path through a catalog pattern, and nobody would notice."""
    for dataset in load_experiments():
        free = {name for name in registered[dataset].inputs() if not name.startswith("params:")}
        expected = {f"{dataset}.{family}.checkpoints" for family in load_experiments()[dataset].families}
        expected |= {f"{dataset}.former"}
        # Leaderboard and report of images take what people say, where anybody was asked.
        expected |= {f"{dataset}.human_record"} if load_experiments()[dataset].kind == "image" else set()
        assert free == expected
        for family in load_experiments()[dataset].families:
            own = registered[dataset].only_nodes_with_namespaces([f"{dataset}.{family}"])
            shared = {"split_record", "former"} | SHARED_BY_FAMILIES[load_experiments()[dataset].kind]
            shared |= {"edit_pictures", "edit_mask", "edit_source"} if FAMILIES[family].denoises else set()
            free = {name for name in own.inputs() if not name.startswith("params:")}
            assert free == {f"{dataset}.{name}" for name in shared} | {f"{dataset}.{family}.checkpoints"}


def test_families_with_codes_are_explored_and_no_others(registered: dict) -> None:
    for dataset, experiment in load_experiments().items():
        explored = {node.namespace for node in registered["explore"].nodes if node.namespace.startswith(f"{dataset}.")}
        latent = {family for family in experiment.families if FAMILIES[family].latent}
        assert explored == {f"{dataset}.{family}" for family in latent}
        summarised = {node.namespace for node in registered["report"].nodes if "exploration" in str(node.inputs)}
        assert {f"{dataset}.{family}" for family in latent} <= summarised


def test_families_with_prompts_are_asked_and_no_others(registered: dict) -> None:
    for stage, dataset_name in (("evaluate", "prompt_fidelity"), ("report", "prompted_images")):
        nodes = (node for node in registered[stage].nodes if dataset_name in str([*node.inputs, *node.outputs]))
        asked = {node.namespace.split(".")[1] for node in nodes}
        assert asked == {name for name, family in FAMILIES.items() if family.prompts}


def test_families_that_denoise_edit_and_no_others(registered: dict) -> None:
    for dataset, experiment in load_experiments().items():
        editing = {node.namespace for node in registered["edit"].nodes if node.namespace.startswith(f"{dataset}.")}
        denoising = {family for family in experiment.families if FAMILIES[family].denoises}
        assert editing == {f"{dataset}.{family}" for family in denoising}
        summaries = registered["report"].only_nodes_with_namespaces([dataset]).nodes
        shown = {node.namespace for node in summaries if f"{node.namespace}.edits" in node.inputs}
        assert shown == editing


def test_people_are_asked_about_images_apart_from_a_plain_run(registered: dict) -> None:
    for dataset, experiment in load_experiments().items():
        plain = {node.name for node in registered[dataset].nodes}
        for stage, verb in (("human_study", "make_study"), ("human_results", "hear_raters")):
            asked = {node.name for node in registered[stage].nodes if node.name.startswith(f"{dataset}.")}
            assert (f"{dataset}.{verb}" in asked) == (experiment.kind == "image") and f"{dataset}.{verb}" not in plain
    # What people say goes into the same files, and is not lost by a plain run: they are made by the same nodes.
    ends = {node for node in registered["human_results"].nodes if "report" in node.tags}
    assert {name for node in ends for name in node.outputs} >= {"mnist.leaderboard", "mnist.report"}
    assert ends < set(registered["report"].nodes)


def test_free_inputs_of_the_stages_that_ask_people_are_the_expected_ones(registered: dict) -> None:
    families = load_experiments()["mnist"].families
    study, results = (
        registered[stage].only_nodes_with_namespaces(["mnist"]) for stage in ("human_study", "human_results")
    )
    free = {name for name in study.inputs() if not name.startswith("params:")}
    assert free == {"mnist.test_set"} | {
        f"mnist.{each}.{what}" for each in families for what in ("samples", "generation_record")
    }
    free = {name for name in results.inputs() if not name.startswith("params:")}
    shared = (
        "human_key",
        "baselines",
        "guest_records",
        "evaluator_record",
        "train_set",
        "split_record",
        "ingest_record",
    )
    assert free == {f"mnist.{name}" for name in shared} | {f"mnist.{family}.summary" for family in families}


@pytest.mark.parametrize("dataset", ["mnist", "pydoc"])
def test_free_inputs_of_the_stages_that_retrain_are_the_expected_ones(registered: dict, dataset: str) -> None:
    kind, families = load_experiments()[dataset].kind, load_experiments()[dataset].families
    splits = {"image": {"train_set", "validation_set", "test_set"}, "text": SHARED_BY_FAMILIES["text"]}[kind]
    noted = {"gate_log", *(f"{family}.promotion" for family in families)}
    expected = {
        "watch": {"registry", "schedule", "decided", "split_record", *splits, *noted},
        "retrain": {"registry", "schedule", "decided", *(f"{family}.checkpoints" for family in families)},
        "draw_champion": {"registry"},
    }
    for stage, names in expected.items():
        free = registered[stage].only_nodes_with_namespaces([dataset]).inputs()
        assert {name for name in free if not name.startswith("param")} == {f"{dataset}.{name}" for name in names}


def test_parameters_that_nodes_read_exist(registered: dict, loader: ExperimentConfigLoader) -> None:
    parameters = loader["parameters"]
    asked = registered["human_study"].inputs() | registered["human_results"].inputs()
    for name in registered["mnist"].inputs() | registered["fashion_mnist"].inputs() | asked:
        if name.startswith("params:"):
            value = parameters
            for part in name.removeprefix("params:").split("."):
                assert part in value, name
                value = value[part]


def test_every_configuration_builds(registered: dict, loader: ExperimentConfigLoader) -> None:
    from kedro.validation.parameter_validator import ParameterValidator

    ParameterValidator(registered).validate_raw_params(loader["parameters"])


def test_every_dataset_is_kept_on_disk(registered: dict, loader: ExperimentConfigLoader) -> None:
    resolver = CatalogConfigResolver(loader["catalog"])
    root = loader["globals"]["data_root"]
    places: dict[str, str] = {}
    stages = ("mnist", "pydoc", "human_study", "human_results", "watch", "retrain", "draw_champion")
    for name in {name for stage in stages for name in registered[stage].datasets()}:
        # The registry lies in MLflow's store, the schedule with the scheduler; what was decided is read a second time.
        if not name.startswith(("mnist.", "pydoc.")) or name.endswith((".registry", ".schedule", ".decided")):
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
    assert files == {
        "common",
        "datasets",
        "evaluation",
        "augmentation",
        "exploration",
        "editing",
        "human",
        "language",
        "retraining",
        *FAMILIES,
    }
    assert {file.stem for file in (ROOT / "src/simulacra/models").glob("*.py")} == {
        "__init__",
        "base",
        "density",
        "language",
        "mixture",
        "neural",
        *FAMILIES,
    }


def test_shared_blocks_stand_in_the_shared_files() -> None:
    shared = {
        key
        for name in (
            "common",
            "evaluation",
            "augmentation",
            "exploration",
            "editing",
            "human",
            "language",
            "retraining",
        )
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
    wholes = {
        "test_conventions",
        "test_run",
        "test_run_retrain",
        "test_run_retrain_texts",
        "test_run_texts",
        "test_notebooks",
        "pipelines/test_nodes",
    }
    wholes |= {"datasets/test_datasets", "models/test_contract", "models/test_text_contract"}
    modules = {path.relative_to(ROOT / "src/simulacra") for path in SOURCES}
    for test in (ROOT / "tests").rglob("test_*.py"):
        place = test.relative_to(ROOT / "tests")
        counterpart = place.with_name(place.name.removeprefix("test_"))
        whole = place.parts[0] == "faults" or str(place.with_suffix("")) in wholes
        assert whole or counterpart in modules, f"{test} has no counterpart"


UNSAFE_MODULES = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}
UNSAFE_MODULES |= {"http", "socketserver", "xmlrpc", "wsgiref", "asyncio", "ssl", "telnetlib", "ftplib", "pty", "code"}
UNSAFE_CALLS = re.compile(
    r"(eval|exec|compile|__import__)|yaml\.(load|load_all|full_load\w*|unsafe_load\w*)|os\.(system|popen|exec\w*|spawn\w*)|"
    r"subprocess\.get\w*output|pd\.read_pickle|socket\.(?!gethostname$|if_nameindex$)\w+|"
    r".*\.(extractall|extract|unpack_archive|to_pickle|read_pickle|load_module|serve_forever)"
)
ONLY_WITH = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
UNSAFE_KEYWORDS = {("shell", True), ("allow_pickle", True), ("trust_remote_code", True), ("weights_only", False)}


def unsafe_spots(code: str) -> list[str]:
    """What in a module could run code out of a file, write where an archive says, or listen to others."""
    spots = []
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        spots += [name for name in names if name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            said = {(word.arg, word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)}
            lacking = name in ONLY_WITH and ONLY_WITH[name] not in said
            if UNSAFE_CALLS.fullmatch(name) or lacking or said & UNSAFE_KEYWORDS:
                spots.append(ast.unparse(node))
    return spots


def test_no_pickle_anywhere() -> None:
    """Nothing that is loaded can run code, nothing unpacks to the disk, no shell, no server."""
    bad = (
        "import pickle",
        "from joblib import load",
        "import http.server",
        "eval(text)",
        "exec(code)",
        "torch.load(f)",
    )
    bad += ("torch.load(f, weights_only=False)", "np.load(f)", "np.load(f, allow_pickle=True)", "yaml.load(f, Loader)")
    bad += ("yaml.unsafe_load(f)", "pd.read_pickle(f)", "archive.extractall(place)", "shutil.unpack_archive(f)")
    bad += ("subprocess.run(line, shell=True)", "os.system(line)", "socket.create_server(place)", "frame.to_pickle(f)")
    assert [code for code in bad if not unsafe_spots(code)] == []
    good = ("torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)", "yaml.safe_load(f)", "network.eval()")
    assert [code for code in good if unsafe_spots(code)] == []
    spots = {
        str(path): unsafe_spots(path.read_text()) for path in (*SOURCES, *sorted((ROOT / "benchmarks").glob("*.py")))
    }
    assert {path: found for path, found in spots.items() if found} == {}
    assert "pickle" not in "".join(file.read_text() for file in (ROOT / "conf").rglob("*.yml"))


def test_networks_draw_from_the_noise_they_are_given() -> None:
    """A draw from torch's global generator would depend on whatever else drew before it."""
    drawing = re.compile(
        r"torch\.(rand|randn|randint|rand_like|randn_like|bernoulli|multinomial|normal|poisson)\(|(?<!nn\.init)\.(normal_|"
        r"uniform_|bernoulli_|exponential_)\(|Dropout|F\.dropout|dropout_p|np\.random\.(?!default_rng|Generator|SeedSequence)"
    )
    for folder in (
        "models",
        "nn",
        "training",
        "augmentation",
        "metrics",
        "exploration",
        "editing",
        "human",
        "diffusion",
        "text",
    ):
        for path in (ROOT / "src/simulacra" / folder).rglob("*.py"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                alone = not line.lstrip().startswith((">>>", "...")) and "generator=" not in line
                assert not (alone and drawing.search(line)), f"{path}:{number}: {line.strip()}"


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
        stage = path.parent.parent.name == "pipelines" and path.name in ("nodes.py", "texts.py", "pipeline.py")
        if not stage and path.name != "__init__.py":
            assert path in named, f"README.md's tree lacks {path.relative_to(ROOT)}"
