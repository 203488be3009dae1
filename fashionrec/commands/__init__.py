"""What the command `fashionrec` does beside running steps: the demo, looking into tables and one shopper's path, checking the machine."""
