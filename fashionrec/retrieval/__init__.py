"""FAISS indexes and the fusion of ranked lists."""
