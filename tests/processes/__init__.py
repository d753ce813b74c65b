"""Several real processes on one store. Each test says how many, bounds how long, and ends what it started by its id."""
