"""The language model: base, quantisation, fine-tuning, merging, batch generation."""
