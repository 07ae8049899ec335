"""Signed HTTP to AWS and Azure."""
