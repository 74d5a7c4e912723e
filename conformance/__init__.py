"""The proof: every optimizer that unirms builds, run beside the reference, each framework in a process of its own.

`cases` says what is run, `drivers` run it in one framework, `measures` says how far a run is from the reference,
`worker` is the process of one framework, `runner` starts the processes, `report` shows what came back. `settings` and
`resumptions` say which trainings are left in one framework and go on in another, `resuming` does both, `carrying` is
between them.
"""

HANG_AFTER = 180.0
"""Seconds without a result after which a worker counts as hung.

Measured on two cores on 2026-11-22: the slowest case took 7 s beside three other workers, the slowest training 11 s
alone; the rest is room for slower machines.
"""
