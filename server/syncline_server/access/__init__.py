"""Who may do what: principals, grants, and the rights that follow from them. Pure; nothing here does I/O."""
