"""`jobsync demo-queue`: a queue of real files, workers at it, one killed with jobs in its hands, and a verdict.

`measure` is the work, `worker` does it in processes of its own, `control` does it once more without a queue,
`scenario` decides what happens when, `watch` reads what the queue says, `view` shows it, and `verdict` judges. The
verdict rests on two tables without any unique key, so that nothing but the library itself could keep a file from
being measured twice.
"""
