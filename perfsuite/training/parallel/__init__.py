"""One optimizer step in several processes: this one is rank 0, the others are started by it and do as it says."""
