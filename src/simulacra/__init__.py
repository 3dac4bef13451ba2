"""Simulacra trains generative models of every major family, judges them, and says whether their data help."""

import os

os.environ["KEDRO_DISABLE_TELEMETRY"] = "true"

__version__ = "0.1.0"
