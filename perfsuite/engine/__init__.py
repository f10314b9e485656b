"""Where blocks of samples come from: this process, fresh ones in lock step, two revisions side by side. No pytest."""
