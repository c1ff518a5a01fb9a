"""The one table of settings; room for it begins here."""
