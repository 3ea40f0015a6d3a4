"""The figures of jobsync, measured: `python -m bench`.

Model: every figure is a function that sets up what it needs on a private PostgreSQL, lets real processes do what
the figure speaks of, and gives the values measured beside the value asked for. Nothing is tuned for it: jobsync
runs with its defaults, the server with its own.

Who is authoritative: the workers' own answers (`my_tokens`, `can_claim_task`), sampled in every process about once
a millisecond and written with the boot clock, which all processes of a machine share. Who owned what, when, and
whether two ever owned the same, is worked out afterwards from those logs (see `bench.intervals`).

Not promised: the same figures on another machine, or on this one under other load. The load is said with them.
"""
