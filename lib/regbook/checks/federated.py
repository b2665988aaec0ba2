"""Feedback for the exercises on federated learning."""
