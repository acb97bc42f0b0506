"""The commands that make what ships in data/."""
