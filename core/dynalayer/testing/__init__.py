"""Tools to test with."""
