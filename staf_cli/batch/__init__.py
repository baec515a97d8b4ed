"""Many clips in one command: each is tried, each gets its own folder, and a ledger lists them.

run.py       a whole batch on one screen: jobs -> worker pool -> rows -> ledger -> exit code
single.py    a single clip, in this process and without a ledger
options.py   what can be chosen about a batch: which files of a folder, how many workers
clips.py     files, folders and lists -> jobs, each with its result folder
naming.py    the name of each result folder
task.py      one clip processed; whatever happens becomes one row
ledger.py    the rows, in summary.csv and summary.json
overview.py  summary.html: all clips on one page, with links to their reports
events.py    what a worker pool reports while it works
workers.py   a pool of worker processes on this machine
cluster.py   a pool on a Ray cluster; the only importer of ray
display.py   the live table
"""
