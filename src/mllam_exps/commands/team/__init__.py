"""Commands for what a team has in common: its share, its experiments, its words on them."""
