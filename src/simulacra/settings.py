"""Project settings that Kedro reads: hooks, configuration loader, configuration patterns."""

from simulacra.experiments import ExperimentConfigLoader
from simulacra.hooks import ProjectHooks
from simulacra.incremental import IncrementalHooks
from simulacra.locks import LockHooks
from simulacra.tracking import TrackingHooks

# Called from last to first: what a node made is tracked first, and only then does the node count as done.
HOOKS = (LockHooks(), IncrementalHooks(), ProjectHooks(), TrackingHooks())
CONFIG_LOADER_CLASS = ExperimentConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"experiments": ["experiments.yml"], "mlflow": ["mlflow.yml"], "schedule": ["schedule.yml"]},
    # An environment holds deltas only: its keys are merged into base's, level by level.
    "merge_strategy": {"parameters": "soft", "experiments": "soft", "mlflow": "soft", "schedule": "soft"},
}
