"""Models found: names and versions to loaded models."""
