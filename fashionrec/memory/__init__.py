"""The query-product memory: normalisation, table, encoder, look-up (paper section 4.2)."""

from fashionrec.memory.look_up import hit_rates, look_up
from fashionrec.memory.query_products import attribute_queries, build_query_products, exposures, unknown_results

__all__ = ["attribute_queries", "build_query_products", "exposures", "hit_rates", "look_up", "unknown_results"]
