"""The local server: uvicorn around the application."""
