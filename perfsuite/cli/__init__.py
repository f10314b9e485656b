"""The command ``perfsuite``: the same core without pytest. Every command's module imports torch only when it runs."""
