"""One optimizer step: how it is planned, made, taken back and kept in files. Recipes change the plan."""
