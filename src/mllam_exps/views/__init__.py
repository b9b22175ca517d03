"""What people are shown of experiments: gathered from the run store and from DVC's saved experiments, as rows."""
