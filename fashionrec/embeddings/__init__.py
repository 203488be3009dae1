"""CORE's item table and the title LSTM."""
