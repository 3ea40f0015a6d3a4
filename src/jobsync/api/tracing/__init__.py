"""Spans for OpenTelemetry: what jobs, tasks, claims and rebalances took, and what of it belongs together.

Model: `catalogue` names every span once, with its attributes; the page of the reference is made from it. A process has
one `Tracing`, made at the first use where the setting `tracing` says so; where it does not, nothing of this is loaded,
and whoever could make a span looks at one attribute that is None.

A job is enqueued within a span whose W3C trace context is stored with the job; the span of each attempt is its child,
and linked to it, in whatever process and however much later it runs. Names and attributes follow OpenTelemetry's
conventions for messaging, where there are any.

What happens to a node is told by the facts that the core reports, on the thread that keeps the lease. Spans of them are
made by a thread of their own, since an exporter may take its time.

Needs the extra `jobsync[otel]`. Where spans go is the application's business: the global tracer provider decides, and
without one they go nowhere.
"""
