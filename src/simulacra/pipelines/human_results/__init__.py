"""Hear people: what their answers say of each family."""
