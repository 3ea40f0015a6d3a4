"""Mutation testing of `jobsync.core`: break one thing at a time, and see whether a test notices. `make mutants`.

Theory of operation. Pytest collects the tests of the core once and runs them once, and this driver notes which of them
enter which function, and what each costs. Then, for each mutant, it forks: the child puts the code of the mutated
function into the function that everybody refers to already, and runs the tests that enter it until one fails: first
those that are short, or have noticed other mutants of that function. So a mutant costs its tests and a fork, not
an interpreter, an import and a collection; that is why this is a driver of its own and neither mutmut nor cosmic-ray,
which start pytest anew for each. Hypothesis plays the same few examples in every run.

A mutant is killed by a failing test, or by using many times the CPU that a test needs. Messages for people, docstrings,
assertions and what runs at import (constants, defaults) are not mutated. Each verdict is written at once to a file, so
an interrupted run counts; the table is drawn from that file, and from the explanations in docs/proof/mutants.md.
"""
