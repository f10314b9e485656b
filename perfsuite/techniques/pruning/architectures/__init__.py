"""One file for each family of models: which of its parts structured pruning can remove, and what follows."""
