"""What makes a book of chapters: runs them, stamps them, checks what is stored.

text       chapters/NN_slug.py, the text that people edit, as a notebook without outputs
run        executes chapters, one or several side by side, and stores them
stamp      what a run used, noted in the chapter's kernel
minutes    how long a chapter takes a reader
rehearse   finds that out: by a dry run that trains nothing, by a run in quick
card       what stands under a chapter's title, made of both
colab      the readers' notebooks in colab/, in plain Markdown
stamp      what a run used, noted in the chapter's kernel; and its card for readers
check      why a notebook may not be published, one rule a fault
graph      what medlib's modules define, and which names their code uses
stale      what a chapter uses, and what of it changed since the chapter ran
waiting    the chapters whose rerun is excused for a while
ledger     every claim beside the verdicts that the notebooks recorded
pdf        the built book as one PDF
mutants    small faults to put into a file's code
survivors  which of them a module's tests do not notice
trial      those tests, in a process for each fault
first      the first cell of all notebooks, which fetches medlib where it is not
release    the repository's address and the book's version, wherever they stand
tiers      check, test and nightly: everything that checks the project

Importing any of these needs no torch. medlib never imports the press, so nothing here
can make a chapter stale.
"""
