"""A row of each request in PostgreSQL, written behind the server's back."""
