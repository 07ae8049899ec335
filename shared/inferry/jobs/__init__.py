"""Batch jobs: a file of rows is read, predicted and written as a file of results."""
