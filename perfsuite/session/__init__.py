"""Plans a measurement, runs it, and has it judged. Knows models, baselines and processes; knows no pytest."""
