"""Leaderboard and self-contained HTML report."""
