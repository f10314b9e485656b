"""Trainers that people have: one optimizer step of theirs as a step of ours, one file for each. Packages are extras."""
