"""What executes a model: one file for each runtime, registered like models (perfsuite.protocols.Runtime)."""
