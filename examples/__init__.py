"""The examples, as a package for their own drivers and tests; what users read are the worker.py files."""
