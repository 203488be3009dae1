"""The query-product memory: normalisation, table, encoder, look-up (paper section 4.2)."""

from fashionrec.memory.look_up import hit_rates, look_up
from fashionrec.memory.query_products import attribute_queries, build_query_products, exposures, results_without_item

__all__ = ["attribute_queries", "build_query_products", "exposures", "hit_rates", "look_up", "results_without_item"]
