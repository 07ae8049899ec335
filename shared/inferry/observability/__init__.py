"""What is seen of the work: logs, traces, metrics."""
