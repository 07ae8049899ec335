"""Processes that `bench` starts and measures; each says in its docstring what it takes and prints."""
