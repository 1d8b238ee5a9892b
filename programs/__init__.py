"""The programs that people call from `.qmail` files and from the shell, under qmail's names.

`bin/program` is the launcher, the other names in `bin/` are links to it, and `programs/__main__.py` says which module a
name means. Each module has `main(words) -> exit status`. They run on a bare python3, in the caller's process and with
the caller's rights, so they know the standard library, `mail/`, `runtime/clock.py` and `runtime/durable.py`, and no
service: mail is handed in over local's socket (`programs/submit.py`).
"""
