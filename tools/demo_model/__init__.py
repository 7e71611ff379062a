"""How the demo checkpoint is made: the words it knows, the pictures they describe, and its training."""
