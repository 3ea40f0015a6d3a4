"""Metrics for Prometheus: what one process knows of itself, and what a fleet's database says of all.

Model: `catalogue` names every metric once, with its kind, its labels and its meaning; all else is made from it, the
page of the reference included. What can be read is read when it is scraped (`process.ProcessMeters`, `fleet`); what
happens is counted from the facts that the core reports and that are logged as well. Nothing is kept twice, and nothing
costs anything in a process that does not expose metrics.

Needs the extra `jobsync[metrics]`, when it is used and not before.
"""
