"""Parameters as DVC has them: files of four kinds, what ``-S`` sets in them, and what it may have meant."""
