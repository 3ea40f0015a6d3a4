"""`jobsync demo`: a fleet at real work, a kill, a stop and a join on the way, and a verdict.

`stdlib` knows the input, `worker` does the work in processes of its own, `fleet` starts and ends those, `scenario`
decides what happens when, `watch` reads what the database says of it, `view` shows it, and `verdict` judges. The
verdict rests on an append-only log without any unique key, so that nothing but the library itself could keep a
file from being done twice.
"""
