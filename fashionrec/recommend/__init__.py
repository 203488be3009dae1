"""Recommendations, fallbacks, policies and the campaign feed."""
