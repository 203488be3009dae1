"""FAISS indexes, one pair per category, and the fusion of their lists (section 4.4)."""
