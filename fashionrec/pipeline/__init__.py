"""Steps, their registry and runner, the model registry, the run manifest."""
