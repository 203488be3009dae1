"""Sessions, sequences and splits."""
