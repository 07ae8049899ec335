"""Runs of many files, on other machines."""
