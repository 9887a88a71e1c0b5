"""The scripts that shells load; each asks `cutaway __complete` for the words."""
