"""MLflow, Feast, KServe and the platform API, answering from the platform's own state."""
