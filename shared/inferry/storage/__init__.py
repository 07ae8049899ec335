"""Files by URL: folders, S3, Azure, Google Cloud and memory."""
