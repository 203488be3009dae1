"""Sessions, sequences per user and category, and their splits (paper section 3.2)."""

from fashionrec.sequences.examples import build_examples
from fashionrec.sequences.sessions import as_of_today, attribute_searches, describe_items, left_out, sessionize, set_robots_aside

__all__ = ["as_of_today", "attribute_searches", "build_examples", "describe_items", "left_out", "sessionize", "set_robots_aside"]
