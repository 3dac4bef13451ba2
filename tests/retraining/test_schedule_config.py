from pathlib import Path

import pytest
import yaml

from simulacra.errors import SimulacraError
from simulacra.retraining.schedule_config import ScheduleConfig

KNOWN = ("mnist", "fashion_mnist")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"datasets": {"mnist": {"cron": "0 25 * * 1"}}}, r"^schedule.yml: datasets.mnist.cron: hour '25'.*got '0 25"),
        ({"datasets": {"mnist": {"cron": "0 0 30 2 *"}}}, r"datasets.mnist.cron: is never due"),
        ({"datasets": {"mnist": {"timezone": "Mars/Olympus"}}}, r"datasets.mnist.timezone: there is no such time zone"),
        ({"datasets": {"mnist": {"timezone": "../../etc/passwd"}}}, r"datasets.mnist.timezone: there is no such"),
        ({"datasets": {"mnits": {"cron": "0 3 * * 1"}}}, r"datasets: unknown dataset 'mnits'; did you mean 'mnist'"),
        ({"datasets": {"mnist": {"corn": "0 3 * * 1"}}}, r"datasets.mnist.corn: unknown key; there are cron, timezone"),
        ({"datasets": {"mnist": {"misfire": "maybe"}}}, r"datasets.mnist.misfire: .*'run' or 'skip'"),
        ({"datasets": {"mnist": {"retries": -1}}}, r"datasets.mnist.retries: .*greater than or equal to 0"),
        ({"concurrency": 0}, r"schedule.yml: concurrency: "),
        ({"keepdays": 3}, r"keepdays: unknown key; there are datasets, concurrency"),
    ],
)
def test_a_mistake_is_told_by_its_key(raw: dict, said: str) -> None:
    with pytest.raises(SimulacraError, match=said):
        ScheduleConfig.parse(raw, KNOWN)


def test_what_is_shipped_schedules_nothing() -> None:
    shipped = Path(__file__).resolve().parents[2] / "conf/base/schedule.yml"
    config = ScheduleConfig.parse(yaml.safe_load(shipped.read_text()), KNOWN)
    assert config == ScheduleConfig() and not config.scheduled


def test_without_a_cron_line_a_dataset_has_settings_and_no_times() -> None:
    config = ScheduleConfig.parse({"datasets": {"mnist": {"timeout": 5}}}, KNOWN)
    assert not config.scheduled and config.of("mnist").trigger() is None
    assert config.of("mnist").timeout == 5 and config.of("fashion_mnist").retries == 2
