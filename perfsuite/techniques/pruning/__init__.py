"""Weights, and whole units, removed from models."""
