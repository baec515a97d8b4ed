"""Many clips: every one tried, each in a folder of its own, and a ledger of how it went.

shift.py     a whole command on one screen: clips -> crew -> rows -> ledger -> exit code
clips.py     files, folders and lists -> clips, each with its result folder
attempt.py   one clip tried: whatever happens becomes one row
ledger.py    the rows, in summary.csv and summary.json
events.py    what a crew tells while it works
workers.py   a crew of processes on this machine
cluster.py   a crew on a Ray cluster: the only importer of ray
board.py     the live table
"""
