"""Puts the zoo through the techniques. What it is for, and how it is used: ``python -m tests.zoo --help``."""

from tests.zoo.command import main

if __name__ == "__main__":
    main()
