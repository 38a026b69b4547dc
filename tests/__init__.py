"""The tests. README.md beside them says what is where, and how to add one."""
