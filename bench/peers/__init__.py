"""Other ways to serve the digits model over HTTP, for `make bench` to compare with."""
