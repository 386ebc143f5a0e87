"""One HTML page about a model and its scores."""
