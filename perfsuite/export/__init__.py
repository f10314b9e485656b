"""From a module to a graph that other runtimes read: its signature, our integers in their operators, files."""
