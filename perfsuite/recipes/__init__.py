"""What changes a training step: one file for each recipe, a frozen value with a name, registered like techniques."""
