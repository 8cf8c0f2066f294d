"""What is allowed and what things mean: tables and pure functions."""
