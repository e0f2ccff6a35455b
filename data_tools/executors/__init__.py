"""Ways to run a stage over many files: on this machine, as one of several ranks, or on a Ray cluster."""
