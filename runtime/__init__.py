"""How a process of Seapost lives: its configuration, clock, events, disk, calls, health, start and end."""
