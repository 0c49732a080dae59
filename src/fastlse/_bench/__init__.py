"""Benchmarks: the part that ``python -m fastlse bench`` and the suites in ``bench/`` share.

In reading order: `cases` is the table of what is timed, `inputs` makes a case's arrays,
`contenders` and `frameworks` are who computes it, `timing` lets them take turns, `races` puts these
together into `results`; `report` prints them, `pictures` draws them, `machine` says where they come
from and `command` is the command line. Importing fastlse imports none of it.
"""
