"""The check of a new version before it gets requests; the folder is the check function's code."""
