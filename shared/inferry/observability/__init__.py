"""What can be observed of the work: logs, traces, metrics."""
