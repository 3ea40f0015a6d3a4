"""The leased queue, as far as it can be decided without a clock or a database."""
