"""One try at a run: it is launched, works inside a job, is waited for, and is stopped.

A `Supervisor` lives inside the job; a `Driver` waits in the user's terminal.
"""
