"""MLflow as a source of models: its registry, asked over REST, as a store."""
