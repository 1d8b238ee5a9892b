"""Takes mail from the world over SMTP and hands it to the queue; says 250 only for what the queue has committed."""
