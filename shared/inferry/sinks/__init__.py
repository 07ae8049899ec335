"""Where the metrics go: a module per sink, imported when it is chosen."""
