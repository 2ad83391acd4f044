"""One run: checked, built, trained, tested, stored, read again."""
