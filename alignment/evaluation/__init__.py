"""Aligned against base: judges, figures and the verdict."""
