"""Readers and writers of files, by format, and what several formats share."""
