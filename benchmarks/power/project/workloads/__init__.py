"""Six small models: the package under test of benchmarks/gate_power.py. Each call is INNER iterations of one unit."""

from workloads.models import NAMES, call

__all__ = ["NAMES", "call"]
