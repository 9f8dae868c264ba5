"""How much and how often: token buckets, open connections, the messages of one connection.

Pure: the caller brings the time.
"""
