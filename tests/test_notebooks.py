"""Notebooks run from top to bottom beside a finished run, and are stored without what a run puts into them."""

import ast
import base64
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WHERE = "import sys, simulacra; print(sys.executable, simulacra.__file__, sep='\\n')"

Execute = Callable[[Path, Path], NotebookNode]


@pytest.fixture(scope="module")
def execute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Execute]:
    """Run a notebook in a project, in the test environment, by this interpreter and the project's own package."""
    scratch = tmp_path_factory.mktemp("jupyter")

    def run(notebook: Path, project: Path) -> NotebookNode:
        folder = project / "notebooks"
        folder.mkdir(exist_ok=True)
        content = nbformat.read(shutil.copy(notebook, folder), as_version=4)
        content.cells.append(nbformat.v4.new_code_cell(WHERE, id="where"))
        patch.setenv("PYTHONPATH", str(project / "src"))
        NotebookClient(
            content, kernel_name="python3", timeout=120, resources={"metadata": {"path": str(folder)}}
        ).execute()
        return content

    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith(("KEDRO_", "MLFLOW_"))]:
            patch.delenv(name)
        patch.setenv("KEDRO_ENV", "test")
        # The kernel of this environment comes before one of the same name in the user's home.
        patch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share/jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(scratch / "runtime"))
        patch.setenv("IPYTHONDIR", str(scratch / "ipython"))
        yield run


@pytest.fixture(scope="module")
def executed(finished_project: Path, execute: Execute) -> dict[str, NotebookNode]:
    """Every notebook with its outputs, by name; a cell that fails raises here."""
    return {path.stem: execute(path, finished_project) for path in NOTEBOOKS}


@pytest.fixture(scope="module")
def first_run(executed: dict[str, NotebookNode]) -> dict[str, NotebookNode]:
    """The cells of the first notebook, by id."""
    return {cell.id: cell for cell in executed["01_first_run"].cells}


def pictures(cell: NotebookNode) -> list[np.ndarray]:
    data = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("L")) for each in data]


def table(cell: NotebookNode) -> str:
    (html,) = [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
    return str(html)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_quietly_with_the_project_s_package(
    path: Path, executed: dict[str, NotebookNode], finished_project: Path
) -> None:
    code = [cell for cell in executed[path.stem].cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    interpreter, package = code[-1].outputs[0].text.split()
    assert Path(interpreter) == Path(sys.executable)
    assert Path(package) == finished_project / "src/simulacra/__init__.py"


def test_first_run_shows_the_leaderboard(first_run: dict[str, NotebookNode]) -> None:
    html = table(first_run["leaderboard"])
    assert all(f"<th>{row}</th>" in html for row in ("floor", "gmm", "vae", "noise"))
    assert html.index("<th>floor</th>") < html.index("<th>gmm</th>") < html.index("<th>noise</th>")
    assert html.count("±") >= 4 * 7 and "FD (classifier)" in html


def test_first_run_shows_pictures(first_run: dict[str, NotebookNode]) -> None:
    shown = {name: pictures(cell) for name, cell in first_run.items() if cell.cell_type == "code"}
    counts = {name: len(images) for name, images in shown.items() if images}
    assert counts == {
        "leaderboard-chart": 1,
        "samples": 3,
        "curves": 2,
        "verdict": 1,
        "new-samples": 1,
        "interpolation": 1,
    }
    assert all(image.std() > 5 for images in shown.values() for image in images)


def test_first_run_shows_passports_verdicts_and_earlier_runs(first_run: dict[str, NotebookNode]) -> None:
    passport = table(first_run["passport"])
    assert all(key in passport for key in ("n_real", "extractors.classifier.sha256", "reference_sha256", "seeds"))
    words = [output.data["text/markdown"] for output in first_run["verdict"].outputs if "text/markdown" in output.data]
    assert {word.split(":")[0] for word in words} == {"**gmm", "**vae"}
    runs = table(first_run["mlflow"])
    assert all(f"<td>{value}</td>" in runs for value in ("mnist.gmm", "mnist.vae", "FINISHED"))


def test_without_results_the_notebook_names_the_command(fresh_project: Path, execute: Execute) -> None:
    with pytest.raises(CellExecutionError, match="run `kedro run --namespaces mnist --env test`"):
        execute(ROOT / "notebooks/01_first_run.ipynb", fresh_project)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs_and_with_stable_ids(path: Path) -> None:
    content = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(content)
    assert (content.nbformat, content.nbformat_minor) == (4, 5)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in content.cells}) == len(content.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defines_nothing(path: Path) -> None:
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, definitions)]
            assert not found, f"{path.name}, cell {cell.id}, line {found[0].lineno}"
