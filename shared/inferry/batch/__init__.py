"""What batch jobs are made of: formats of files, rows on their way through a model, results that appear at once."""
