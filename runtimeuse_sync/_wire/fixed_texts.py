"""Error texts that the protocol fixes (PROTOCOL.md), as the runtime sends them before it masks secrets.

Threads: constants only.
"""

#: The refusal of a request while another one is in flight (PROTOCOL.md, "Busy").
BUSY_ERROR = "Received request while another is in flight!"
#: The terminal message of a cancelled request (PROTOCOL.md, "Cancel").
CANCELLED_ERROR = "Request cancelled"
