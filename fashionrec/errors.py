"""The errors that entry points show as one line instead of a traceback."""


class UserError(Exception):
    """Something that whoever runs a job can mend. The text says in one line what happened, where, and what to do."""
