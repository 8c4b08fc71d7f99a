"""Actions: what would repair a failing check, as plans. Nothing here changes anything."""
