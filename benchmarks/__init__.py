"""Our client against the async one, in the same run: `python -m benchmarks`.

| module | what it is |
| --- | --- |
| `server.py` | a canned server, in a process of its own: it sends frames that were made beforehand |
| `contenders.py` | the same work done by our client, by the async client, and by a raw socket |
| `measuring.py` | runs contenders in turns (A B A B) and takes medians |
| `rows.py`, `latency.py`, `growth.py`, `runtime.py` | the rows of the table |
| `report.py` | the table and the chart |

A figure is only ever compared with one of the same run: machines differ, and a shared one from minute to minute.
"""
