"""A zoo of tiny models, the architectures that people own, and what each technique makes of each of them.

``make zoo`` puts all of them through all techniques and writes the table of docs/models.md; ``test_sample.py`` is
the part of it that runs with the tests. An architecture of your own is one entry in one of the files beside this.
"""
