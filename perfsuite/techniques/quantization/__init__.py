"""Weights and activations on integer grids."""
