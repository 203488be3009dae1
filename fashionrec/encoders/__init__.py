"""Encoders of short texts behind one interface, shared by the memory (queries) and the title space."""
