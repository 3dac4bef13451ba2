"""Where data come from, how they are checked, and how they are split."""
