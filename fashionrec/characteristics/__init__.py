"""The paper's four characteristics of fashion shopping (section 3), computed from what a shop logged."""
