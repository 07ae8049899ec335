"""Lambda functions beside ours; each is a handler, as a module of its own."""
