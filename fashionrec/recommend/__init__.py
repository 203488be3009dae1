"""What is mailed: the feed of e-mail campaigns."""
