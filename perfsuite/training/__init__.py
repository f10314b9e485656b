"""A step of training, and what it takes to repeat one."""
