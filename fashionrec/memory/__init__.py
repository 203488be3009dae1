"""The query-product memory: normalisation, table, encoders, index, look-up (paper section 4.2)."""

from fashionrec.memory.look_up import asked_queries, gone_items, hit_rates, look_up, remembered_queries, wanted_queries
from fashionrec.memory.query_products import build_query_products, held, results_without_item, shown_products
from fashionrec.memory.searches import attribute_queries

__all__ = [
    "asked_queries",
    "attribute_queries",
    "build_query_products",
    "gone_items",
    "held",
    "hit_rates",
    "look_up",
    "remembered_queries",
    "results_without_item",
    "shown_products",
    "wanted_queries",
]
