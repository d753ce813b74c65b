"""Small changes to the code, each of which breaks a promise that a test must notice."""
