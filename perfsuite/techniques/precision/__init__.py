"""Half precision: casts and autocast."""
