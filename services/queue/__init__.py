"""Keeps mail and decides what happens to it next. The only room that opens the spool."""
