"""The operator's command: prepares a state directory, runs the stack as plain processes, and asks it questions."""
