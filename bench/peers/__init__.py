"""Other queues on PostgreSQL, each at its best documented setting; `bench.queue_peers` drives them as processes.

Each module here is a script that runs in an environment where its library is installed, and knows nothing of jobsync:

    setup DSN            make the tables
    enqueue DSN COUNT    enqueue so many jobs in bulk; prints {"enqueue_sec": ...}
    single DSN COUNT     enqueue one at a time, each committed; prints {"single_sec": ...}
    pickup DSN COUNT     enqueue one job every 20 ms, with the time of its call
    work DSN             work until it is killed; prints {"first": ...} at its first job, and {"pickup_ms": ...} at
                         one that bears a time
"""
