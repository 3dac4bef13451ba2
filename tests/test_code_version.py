"""What an edit of the package touches: the versions of real nodes, taken from edited copies of the source."""

import ast
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import simulacra
from simulacra.pipelines.augment.nodes import try_augmentation
from simulacra.pipelines.evaluate.nodes import evaluate, train_extractor
from simulacra.pipelines.ingest.nodes import ingest
from simulacra.pipelines.report.nodes import make_leaderboard, write_report
from simulacra.pipelines.train.nodes import fit, plot_curves

SOURCE = Path(simulacra.__file__).parent
NODES: dict[str, tuple[Callable, frozenset[str]]] = {
    "ingest": (ingest, frozenset()),
    "train_extractor": (train_extractor, frozenset()),
    **{f"{family}.fit": (fit, frozenset({family})) for family in ("gmm", "vae")},
    **{f"{family}.plot_curves": (plot_curves, frozenset({family})) for family in ("gmm", "vae")},
    **{f"{family}.evaluate": (evaluate, frozenset({family})) for family in ("gmm", "vae")},
    **{f"{family}.try_augmentation": (try_augmentation, frozenset({family})) for family in ("gmm", "vae")},
    "make_leaderboard": (make_leaderboard, frozenset()),
    "write_report": (write_report, frozenset()),
}


def versions(package: Path) -> dict[str, str]:
    """The versions of all nodes, by the copy of code_version.py that lies in a copy of the package."""
    spec = importlib.util.spec_from_file_location("copied_code_version", package / "code_version.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: module.code_version(*node) for name, node in NODES.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("package") / "simulacra"
    return Path(shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, str]:
    return versions(package)


@pytest.fixture
def touched(package: Path, before: dict[str, str]) -> Callable[[str, str, str], set[str]]:
    """Edit one file and return the nodes whose version differs; the file is put back."""

    def edit(file: str, old: str, new: str) -> set[str]:
        path = package / file
        text = path.read_text()
        assert old in text, f"{file} no longer says {old!r}; edit something else"
        path.write_text(text.replace(old, new, 1))
        try:
            after = versions(package)
        finally:
            path.write_text(text)
        return {name for name in NODES if after[name] != before[name]}

    return edit


def test_an_untouched_copy_has_the_same_versions_as_the_original(before: dict[str, str]) -> None:
    assert before == versions(SOURCE)
    assert len(set(before.values())) == len(NODES)


def test_comments_layout_and_docstrings_change_nothing(touched: Callable) -> None:
    assert touched("models/vae.py", "\nclass VAE(", "\n# A comment.\n\n\nclass VAE(") == set()
    docstring = (SOURCE / "models/vae.py").read_text().split('"""')[1]
    assert touched("models/vae.py", docstring, "Something else.") == set()
    assert touched("training/seeding.py", "import", "import  ") == set()


@pytest.mark.parametrize("family", ["gmm", "vae"])
def test_an_edit_of_one_family_touches_its_nodes_and_no_other_s(touched: Callable, family: str) -> None:
    found = touched(f"models/{family}.py", f'name = "{family}"', f'name = "{family}2"')
    assert found == {name for name in NODES if name.startswith(f"{family}.")}


def test_code_reached_by_imports_within_functions_counts(touched: Callable) -> None:
    found = touched("training/schedule.py", "def learning_rate_factor(", "@cache\ndef learning_rate_factor(")
    assert {"vae.fit", "train_extractor", "vae.try_augmentation"} <= found
    assert not {"gmm.fit", "ingest", "make_leaderboard", "write_report"} & found
    found = touched("data/fabricate.py", "def fabricate_images(", "@cache\ndef fabricate_images(")
    assert found == {"ingest"}


def test_code_of_an_input_counts_though_only_its_type_is_named(touched: Callable) -> None:
    found = touched("nn/classifier.py", "return self.standardise(", "return 2 * self.standardise(")
    assert {"vae.evaluate", "gmm.evaluate", "train_extractor"} <= found
    assert not {"vae.fit", "gmm.fit", "ingest"} & found


def test_a_node_s_neighbours_in_its_module_do_not_count(touched: Callable) -> None:
    found = touched("plotting.py", "def training_curves(", "@cache\ndef training_curves(")
    assert {"vae.plot_curves", "gmm.plot_curves"} <= found
    assert not {"vae.fit", "gmm.fit", "train_extractor", "make_leaderboard"} & found


def test_a_family_more_touches_none_of_the_others(touched: Callable, package: Path) -> None:
    new = '\n    "toy": Family("Toy", frozenset({"image"})),\n}\n'
    assert touched("models/__init__.py", "\n}\n", new) == set()


def test_a_template_counts_for_the_page_that_it_makes(touched: Callable) -> None:
    found = touched("report/templates/report.html.jinja", "<body", "<body ")
    assert "write_report" in found and not {"vae.fit", "gmm.evaluate", "ingest"} & found


def test_how_a_node_is_skipped_does_not_count(touched: Callable) -> None:
    assert touched("incremental.py", "    SKIPPABLE.add(wrapped)\n", "") == set()


def test_how_a_version_is_found_does_not_count(touched: Callable) -> None:
    assert touched("code_version.py", "PARSING = Lock()", "PARSING = (Lock(),)[0]") == set()


def test_every_file_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: parsed.append(text) or parse(text))
    versions(SOURCE)
    assert 0 < len(parsed) <= len(list(SOURCE.rglob("*.py")))
