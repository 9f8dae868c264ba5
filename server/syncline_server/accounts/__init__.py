"""Who somebody is: accounts, groups and tokens, and the ways to prove an identity (passwords, JWTs, OpenID Connect)."""
