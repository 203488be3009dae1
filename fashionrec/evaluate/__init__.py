"""Metrics, protocols, baselines and reports."""
