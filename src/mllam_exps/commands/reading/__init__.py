"""The commands that look, and change nothing but what they remember of having looked.

One does: `verify` sets aside what it finds damaged.
"""
