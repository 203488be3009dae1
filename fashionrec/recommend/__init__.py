"""From answers to products: recommendations with their fallback, and the feed of e-mail campaigns."""
