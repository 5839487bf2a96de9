"""Acting: the queue, the one loop that gathers, plans, executes and reports, and its workers."""
