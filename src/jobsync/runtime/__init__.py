"""Who owns time and concurrency: the thread that keeps a lease alive, and the threads of the application's side.

Theory of operation. One engine thread a node owns the member, the session and the wait; it is the only one that touches
either. Readers in any thread take one immutable value, `engine.standing`, and evaluate its ends with their own reading
of the clocks. The application's callbacks run on a second thread, what was claimed and done is written by a third, each
started when it is first needed. They speak to the engine through its inbox, and never the other way round.

Authoritative: `clock` is the only place that reads clocks (and `answers`, for speed). Not promised: that a callback
runs within any time; the hand-over that waits for it is bounded.
"""
