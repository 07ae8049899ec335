"""Speed and memory of inferry beside its peers: `python -m bench` measures and prints one table."""
