"""The commands that look, and change nothing but what they remember of having looked."""
