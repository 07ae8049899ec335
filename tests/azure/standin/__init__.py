"""A stand-in for `func start`: routes, keys, queue triggers, over Microsoft's own runtime library."""
