"""The query-product memory: normalisation, table, encoder, look-up."""
