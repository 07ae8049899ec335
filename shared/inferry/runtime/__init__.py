"""Models run."""
