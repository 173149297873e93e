"""The worker's side of benches/remote.py."""

import json
import os
import sys
import traceback


def serve(actions):
    """Answers requests until stdin ends; ``actions`` maps a request's ``do`` to what takes its other fields."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up between the replies
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": actions[request.pop("do")](**request)}
        except Exception:
            reply = {"error": traceback.format_exc(limit=-3)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
