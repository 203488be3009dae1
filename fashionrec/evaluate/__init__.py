"""The evaluation: protocols, and the rows that are compared."""
