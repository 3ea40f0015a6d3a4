"""The examples as a user starts them, and controls that their verdicts can fail."""
