"""What a result is of: the content of files, the definition of a run, and the key by which it is known.

Two results with the same key are the same result.
"""
