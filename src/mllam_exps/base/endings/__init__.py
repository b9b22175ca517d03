"""How a program ended: read from its exit code and the end of its log, as a line for people and a word for rules."""
