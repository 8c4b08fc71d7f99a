"""What the fields of an object may hold, how a patch changes them, and who owns them.

Functions over objects; nothing here knows a request or looks into the store.
"""
