"""A stand-in for `func start`: routes, keys, queue and blob triggers, over Microsoft's own runtime library."""
