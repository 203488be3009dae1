"""The template, rendering within the token budget, parsing of answers."""
