"""What a team has in common: a share, which is a folder of one Unix group.

In it lie the git repository behind ``dvc exp push`` and ``pull``, a DVC remote, DVC's
cache and the run store. `founding` makes it, `joining` lets a clone use it,
`inspection` finds what would lock a member out, or let somebody else in.
"""
