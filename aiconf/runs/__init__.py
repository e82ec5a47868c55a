"""Measured runs: reading them, predicting each by replay, and the error that is left."""
