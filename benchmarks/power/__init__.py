"""The parts of benchmarks/gate_power.py: what is recorded, and how every gate would have judged it."""
