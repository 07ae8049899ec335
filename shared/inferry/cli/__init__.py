"""The command `inferry`: a module for each subcommand, and their arguments in `main`."""
