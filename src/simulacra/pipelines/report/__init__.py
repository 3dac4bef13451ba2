"""Bring the numbers together: leaderboard and page."""
