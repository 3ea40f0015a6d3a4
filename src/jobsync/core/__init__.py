"""Everything that is decided, and nothing else.

Theory of operation. This room knows no clock, thread, socket, log or SQL. Instants arrive with the events,
randomness is derived from names, and what is to be done leaves as values. A test can therefore run a whole
fleet through years of trouble in milliseconds, and a seed replays.

The parts: values (`tokens`, `leases`, `holding`, `messages`), what users choose (`settings`, `tasks`, `pins`,
`hashing`), the deal (`assignment`, `planning`), and one node of the fleet (`member`, with `belief`, `observer`,
`entry`, `leadership`, `departure`).

Not promised here: that an effect is carried out. The member is told what became of it by the next event.
"""
