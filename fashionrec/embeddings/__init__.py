"""The two spaces of section 4.4: items by what shoppers buy together (CORE's item table), titles by the queries that they answer (an LSTM).

Networks and training stand in `core` and `title`, which import torch and run in a process of their own (`train`); what other
processes read of a trained model stands in `spaces`, and what Spark exports for training in `examples`.
"""
