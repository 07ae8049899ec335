"""Responses that are kept: the outputs of earlier requests, for requests that are the same."""
