"""Ask whether synthetic images help a classifier."""
