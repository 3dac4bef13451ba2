"""The DAG as the command writes it; Airflow itself runs it where AIRFLOW_EXECUTABLE names one (pytest -m slow)."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulacra.errors import SimulacraError
from simulacra.retraining import airflow_dag
from simulacra.retraining.airflow_dag import dag_facts
from simulacra.retraining.schedule_config import ScheduleConfig
from simulacra.retraining.steps import steps
from simulacra.tracking.joining import KEYS

SCHEDULE = """
datasets:
  mnist:
    cron: 30 3 * * 1-5
    timezone: Europe/Berlin
    timeout: 90
    retries: 4
    back_off: 45
  image_folder:
    timezone: UTC
concurrency: 3
"""
FAMILIES = ("gmm", "naive_bayes", "vae")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, copied: Callable) -> Path:
    """A project whose environment `test`, on fabricated data, is scheduled."""
    place = copied(tmp_path_factory.mktemp("airflow"))
    for environment in ("local", "test"):
        (place / "conf" / environment / "schedule.yml").write_text(SCHEDULE)
    (place / "conf/test/experiments.yml").write_text(f"mnist:\n  families: [{', '.join(FAMILIES)}]\n")
    parameters = place / "conf/test/parameters.yml"
    parameters.write_text(parameters.read_text().replace("mnist:\n", "mnist:\n  split:\n    by: content\n", 1))
    return place


@pytest.fixture(scope="module")
def dag(project: Path, kedro: Callable) -> Path:
    done = kedro(project, "schedule", "dag", "mnist", "--env", "test", "--pool", "simulacra")
    assert "simulacra_test_mnist_dag.py" in done.stdout
    return project / "airflow_dags/simulacra_test_mnist_dag.py"


def constants(file: Path) -> dict[str, ast.expr]:
    """Return what the module's names are bound to at its top."""
    bound = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): node.value for node in bound}


def of_the_dag(file: Path) -> dict[str, str]:
    """Return the arguments of DAG(...), as source."""
    (made,) = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.With)]
    call = made.items[0].context_expr
    assert isinstance(call, ast.Call)
    return {str(word.arg): ast.unparse(word.value) for word in call.keywords}


def test_its_commands_are_those_of_a_tick(dag: Path) -> None:
    said = {name: node for name, node in constants(dag).items() if name in ("WATCH", "PREPARE", "FAMILIES", "RETRAIN")}
    found = {name: ast.literal_eval(node) for name, node in said.items()}
    tick = steps("mnist", FAMILIES, kedro=(), options=("--env", "test"))
    assert tuple(found["FAMILIES"]) == FAMILIES
    lines = [found["WATCH"], found["PREPARE"], *found["FAMILIES"].values(), found["RETRAIN"]]
    expected = [tick.watch, tick.prepare, *tick.families, tick.retrain]
    assert [tuple(shlex.split(line)) for line in lines] == [step.command for step in expected]


def test_times_retries_and_limits_are_those_of_the_schedule(dag: Path) -> None:
    said = of_the_dag(dag)
    assert said["schedule"] == "CronTriggerTimetable('30 3 * * 1-5', timezone='Europe/Berlin')"
    assert said["start_date"].endswith("tzinfo=ZoneInfo('Europe/Berlin'))")
    assert (said["dag_id"], said["max_active_tasks"]) == ("'simulacra_test_mnist'", "3")
    assert (said["catchup"], said["max_active_runs"]) == ("False", "1")
    each = ast.unparse(constants(dag)["EACH_TASK"])
    for setting in ("'retries': 4", "timedelta(seconds=45)", "timedelta(minutes=90)", "'pool': 'simulacra'"):
        assert setting in each
    assert ast.literal_eval(constants(dag)["DECISION"]) == "data/test/08_reporting/mnist/retrain_decision.json"


def test_a_dataset_that_is_due_by_hand_has_no_times(project: Path, kedro: Callable) -> None:
    kedro(project, "schedule", "dag", "image_folder", "--target-dir", "other")
    file = project / "other/simulacra_image_folder_dag.py"
    assert of_the_dag(file)["schedule"] == "None" and "CronTriggerTimetable" not in file.read_text()
    assert "--env" not in file.read_text() and tidy(file)


def test_it_stands_alone_and_is_tidy(dag: Path) -> None:
    modules = {node.module or "" for node in ast.walk(ast.parse(dag.read_text())) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= {"airflow", *sys.stdlib_module_names}
    assert tidy(dag)


def tidy(file: Path) -> bool:
    """Whether it is as ruff would write it, by the project's rules."""
    config = ("--no-cache", "--config", str(Path(__file__).parents[2] / "pyproject.toml"), str(file))
    for command in (("format", "--check"), ("check",)):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return True


@pytest.mark.parametrize(
    "run", ["scheduled__2026-11-22T15:00:00+00:00", "manual__2026-11-22T15:26:24.208650+00:00_aB3-", "~" * 250]
)
def test_the_parent_s_key_is_one_that_runs_can_join(run: str, dag: Path) -> None:
    from jinja2 import Template

    key = Template(ast.literal_eval(constants(dag)["PARENT"])).render(run_id=run)  # as Airflow renders it
    assert KEYS.fullmatch(key) and key.startswith("mnist test ")
    assert run[:50].replace("~", "-") in key


def load(file: Path) -> Any:
    """Run the part of the module that needs nothing of Airflow, and return its names."""
    tree = ast.parse(file.read_text())
    kept = [
        node for node in tree.body if "airflow" not in ast.unparse(node).split("\n")[0] and type(node) is not ast.With
    ]
    tree.body = [node for node in kept if not (isinstance(node, ast.FunctionDef) and node.name == "kedro")]
    names: dict[str, Any] = {"AirflowFailException": RuntimeError}
    exec(compile(tree, str(file), "exec"), names)
    return SimpleNamespace(**names)


def test_without_the_project_s_folder_it_says_so(dag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMULACRA_PROJECT", raising=False)
    with pytest.raises(RuntimeError, match="SIMULACRA_PROJECT must name the folder of the project"):
        load(dag)


def test_kedro_is_the_one_named_or_the_project_s_or_that_on_the_path(
    dag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMULACRA_PROJECT", str(tmp_path))
    monkeypatch.delenv("SIMULACRA_KEDRO", raising=False)
    assert load(dag).KEDRO == ["kedro"]
    own = tmp_path / ".venv/bin/kedro"
    own.parent.mkdir(parents=True)
    own.touch()
    assert load(dag).KEDRO == [str(own)]
    monkeypatch.setenv("SIMULACRA_KEDRO", "'/a b/python' -m kedro")
    assert load(dag).KEDRO == ["/a b/python", "-m", "kedro"]


def test_mistakes_are_told_before_anything_is_written(project: Path, kedro: Callable) -> None:
    command = ("schedule", "dag", "--target-dir", "none")
    assert "unknown dataset 'mnits'; did you mean 'mnist'?" in kedro(project, *command, "mnits", code=1).stderr
    told = kedro(project, *command, "fashion_mnist", code=1).stderr
    assert told.strip().endswith("datasets has no entry fashion_mnist; conf/README.md has an example")
    assert not (project / "none").exists()


def test_without_the_extra_it_is_named(project: Path, tmp_path: Path, kedro: Callable) -> None:
    # A finder says that there is no such module, as where it is not installed.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['kedro_airflow'] = None\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = kedro(project, "schedule", "dag", "mnist", code=1, PYTHONPATH=path)
    assert '-e ".[airflow]"' in done.stderr and "Traceback" not in done.stderr


def test_a_time_zone_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    nameless = zoneinfo.ZoneInfo.from_file(Path(zoneinfo.TZPATH[0], "Europe/Berlin").open("rb"))  # /etc/localtime
    with pytest.raises(SimulacraError, match=r"datasets\.mnist\.timezone: this machine's has no name"):
        airflow_dag._named(nameless, "mnist")
    config = ScheduleConfig.parse({"datasets": {"mnist": {}}}, ["mnist"])
    with pytest.raises(SimulacraError, match="no entry pydoc"):
        dag_facts("pydoc", ["gpt"], config, Path("data"), None)


@pytest.mark.slow
@pytest.mark.skipif("AIRFLOW_EXECUTABLE" not in os.environ, reason="AIRFLOW_EXECUTABLE names no airflow")
def test_airflow_runs_it_below_one_run_of_mlflow(dag: Path, project: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    airflow = os.environ["AIRFLOW_EXECUTABLE"]
    place = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__DAGS_FOLDER": str(dag.parent)}
    place |= {"SIMULACRA_PROJECT": str(project), "SIMULACRA_KEDRO": f"{shlex.quote(sys.executable)} -m kedro"}
    place |= {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__PARALLELISM": "2"}

    def call(*words: str) -> str:
        done = subprocess.run([airflow, *words], env=os.environ | place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout + done.stderr

    def states(said: str) -> dict[str, str]:
        (run,) = {*re.findall(r"DagRun Finished: .*?run_id=([^,]+),", said)}
        lines = call("tasks", "states-for-dag-run", "simulacra_test_mnist", run, "-o", "plain").splitlines()
        return {line.split()[2]: line.split()[3] for line in lines if line.startswith("simulacra_test_mnist")}

    call("db", "migrate")
    first = states(call("dags", "test", "simulacra_test_mnist"))
    families = {f"train_{family}" for family in FAMILIES}
    assert {name for name, state in first.items() if state == "success"} >= {"watch", "prepare", "retrain", *families}
    assert first["fail"] == "skipped"
    client = MlflowClient(f"sqlite:///{project}/data/test/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("simulacra").experiment_id])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.run_name.startswith("mnist test manual__")
    assert {run.info.run_name for run in found} >= {f"mnist.{family}" for family in FAMILIES}
