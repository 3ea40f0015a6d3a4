"""The files of deploy/ against the program that they start."""
