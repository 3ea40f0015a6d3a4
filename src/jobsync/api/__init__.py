"""What applications use: `Job` and what belongs to it, configuration, and administration.

Theory of operation. This room translates between the words of a user (tasks, ids, dates, callbacks) and those
of the runtime (tokens, holdings, ledgers). It refuses bad input at the call, before anything is written, and
raises nothing but subclasses of `JobsyncError`. It decides nothing about ownership.
"""
