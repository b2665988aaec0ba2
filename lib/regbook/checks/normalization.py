"""Feedback for the exercises of ``chapters/normalization``."""
