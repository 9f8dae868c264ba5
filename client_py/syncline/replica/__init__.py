"""A copy of a store on this machine, and the writes that the server does not have yet."""
