"""`inferry size`: how much memory a model needs in the clouds, which size is cheapest and quickest, and what it costs.
Only the command line imports this."""
