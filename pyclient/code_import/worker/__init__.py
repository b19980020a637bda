"""The worker: takes due imports from the database and runs each in a process group of its own.

``engine.Worker`` is all of it. Nothing is imported here: the process that runs are forked from
needs ``child`` and the importers, and no database.
"""
