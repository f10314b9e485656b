"""What one repetition is: one file for each workload, registered like models (perfsuite.protocols.Workload)."""
