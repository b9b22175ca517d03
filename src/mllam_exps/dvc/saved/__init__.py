"""What git keeps of experiments that DVC has: their refs, and what a commit of one holds."""
