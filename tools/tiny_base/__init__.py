"""The factory of the tiny base model in `conf/models/tiny`. The product does not import it."""
