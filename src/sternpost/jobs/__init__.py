"""Long jobs that cross rooms: one file each. Names are resolved here."""
