"""Where jobs run: this process, fresh ones, several in turns, two revisions side by side in one. No pytest."""
