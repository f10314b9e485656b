"""Private parts of other packages that perfsuite uses, one file a package. tests/compat says what an upgrade broke."""
