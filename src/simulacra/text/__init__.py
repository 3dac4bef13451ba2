"""Text as mathematics: tokens, and how to draw them from a network's logits."""
