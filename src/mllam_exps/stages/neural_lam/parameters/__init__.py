"""Neural-LAM's parameter files: read, checked, and turned into the arguments of its programs.

What a program can be told is asked of the program itself (`arguments`).
"""
