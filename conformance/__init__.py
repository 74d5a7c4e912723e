"""The proof: every optimizer that unirms builds, run beside the reference, each framework in a process of its own.

`cases` says what is run, `drivers` run it in one framework, `measures` says how far a run is from the reference,
`worker` is the process of one framework, `runner` starts the processes, `report` shows what came back.
"""
