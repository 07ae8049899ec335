"""Where metrics go: one module for each sink, and what they share."""
