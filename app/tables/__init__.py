"""Results as rich tables for the terminal."""
