"""Raw logs and catalogues to tables; importers of public data; the synthetic fashion world."""
