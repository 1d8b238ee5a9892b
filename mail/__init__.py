"""What Seapost knows about mail: addresses, envelopes, routes, names, texts. Pure: no I/O, no clock, no chance."""
