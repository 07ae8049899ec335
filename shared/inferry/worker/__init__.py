"""Queue messages and steps of runs."""
