"""aiconf: find, predict and deploy the best way to serve a model."""
