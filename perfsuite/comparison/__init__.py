"""Comparing forms of one model side by side: times, size, memory, accuracy, energy, and what was claimed of them."""
