"""What is found for a path: candidates of named sources from indexes of each category, and their fusion into one list (section 4.4)."""
