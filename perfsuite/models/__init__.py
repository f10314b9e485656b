"""Real models, real data: the reference encoder, Hugging Face models, tasks and devices."""
