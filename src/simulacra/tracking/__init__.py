"""MLflow: one parent run per `kedro run`, one child per `<dataset>.<family>`, and nothing that can hurt a training.

Hooks write what happens to a journal on disk; one thread sends the journal to MLflow; what a server does not take is
sent by the next run.
"""

from simulacra.tracking.config import TrackingConfig
from simulacra.tracking.hooks import TrackingHooks

__all__ = ["TrackingConfig", "TrackingHooks"]
