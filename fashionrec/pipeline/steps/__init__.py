"""The steps, one module per stage: each reads, says one sentence of domain verbs, writes."""
