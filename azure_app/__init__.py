"""inferry as an Azure Functions app."""
