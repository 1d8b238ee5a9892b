"""remote: hands mail to the world. Keeps nothing: what it holds, the queue holds too."""
