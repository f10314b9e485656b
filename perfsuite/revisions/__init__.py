"""Other commits of the project: which one is the base, and its files in a folder of their own. No torch, no pytest."""
