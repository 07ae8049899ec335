from azure_app.function_app import app

__all__ = ["app"]
