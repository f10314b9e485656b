"""Training a small model to answer as a large one does (Hinton, Vinyals and Dean 2015)."""
