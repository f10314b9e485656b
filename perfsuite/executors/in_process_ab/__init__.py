"""In-process A/B: two revisions of a project in one process, one visible at a time."""
