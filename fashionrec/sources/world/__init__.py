"""The synthetic fashion world: a made-up shop and its shoppers, written as raw files."""
