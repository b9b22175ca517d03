"""What everything stands on: errors, records on disk, who owns a file, git, the terminal.

Nothing here knows of experiments, runs or stages.
"""
