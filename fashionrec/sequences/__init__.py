"""Sessions, sequences per user and category, and their splits (paper section 3.2)."""

from fashionrec.sequences.examples import build_examples
from fashionrec.sequences.sessions import attach_items, attribute_searches, left_out, sessionize

__all__ = ["attach_items", "attribute_searches", "build_examples", "left_out", "sessionize"]
