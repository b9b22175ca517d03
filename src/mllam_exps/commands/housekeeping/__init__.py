"""Commands for a repository of one's own: begun, checked, tidied, its machine, its tracking."""
