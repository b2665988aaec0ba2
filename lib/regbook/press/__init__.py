"""The press: run a page as a script, execute pages in place, and tell which stored outputs are stale."""
