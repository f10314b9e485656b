"""Programs that other runtimes deploy: into folders once they are proven, and out of them again."""
