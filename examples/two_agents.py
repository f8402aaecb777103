#!/usr/bin/python3
"""Two agents share work over MCP, as a play: who calls what (→), and what is answered (←).

    examples/two_agents.py [--coord-mcp PROGRAM] [conninfo]

Each agent has a coord-mcp of its own and speaks to it as an MCP client does, in lines
of JSON on its standard input and output.  Of what comes back only the members of
interest are shown.  The queue "play" should be nobody else's; its tasks are all ended.
"""

import argparse
import json
import subprocess

options = argparse.ArgumentParser(description="two agents share work over MCP")
options.add_argument("--coord-mcp", default="coord-mcp", metavar="PROGRAM")
options.add_argument("conninfo", nargs="?")
options = options.parse_args()


class Agent:
    """An agent, which is a process of coord-mcp and what is said to it."""

    def __init__(self, name):
        self.name = name
        self.requests = 0
        command = [options.coord_mcp, "--name", f"{name} of the play", "--queue", "play", "--heartbeat-timeout", "1"]
        self.process = subprocess.Popen(command + ([options.conninfo] if options.conninfo else []),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        self.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                    "clientInfo": {"name": name, "version": "1"}})
        self.answer()
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def say(self, *words):
        print(self.name, *words, flush=True)

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def request(self, method, params):
        self.requests += 1
        self.send({"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params})

    def answer(self):
        """The answer to the last request; what else comes is passed over."""
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == self.requests:
                return message["result"]
        raise SystemExit(f"{self.name}'s coord-mcp has ended")

    def ask(self, tool, **arguments):
        self.say("→", tool, json.dumps(arguments))
        self.request("tools/call", {"name": tool, "arguments": arguments})

    def hear(self, *members):
        """The answer, of which these members are shown; of a set, those of each row."""
        content = self.answer()["structuredContent"]
        rows = content["tasks"] if "tasks" in content else [content]
        for row in rows:
            self.say("←", json.dumps({key: row[key] for key in ("code", "message", *members) if key in row}))
        if not rows:
            self.say("←", "nothing")
        return rows

    def call(self, tool, *members, **arguments):
        self.ask(tool, **arguments)
        return self.hear(*members)

    def die(self):
        self.say("is killed")
        self.process.kill()
        self.process.wait()

    def leave(self):
        """What ends every client: its end of the pipe is closed."""
        self.process.stdin.close()
        self.process.wait()


def held(task):
    return {"task_id": task["id"], "fencing_token": task["fencing_token"]}


TASK = ("type", "state", "attempts", "fencing_token")

ann, bob = Agent("ann"), Agent("bob")

# Work for both.  Bob waits for it before it is there.
bob.ask("task_claim", wait=30)
ann.call("task_create", "type", "state", type="write the tests")
[tests] = bob.hear(*TASK)
ann.call("task_create", "type", "state", type="write the docs", payload={"about": "leases"})
[docs] = ann.call("task_claim", *TASK)

# One thing that only one may touch: the second one is told who has it, and waits.
[lock] = bob.call("lock_acquire", "state", resource_key="main branch")
ann.call("lock_acquire", "holder", "retryable", resource_key="main branch")
ann.ask("lock_acquire", resource_key="main branch", wait=30)
bob.call("lock_release", "released", lease_id=lock["id"])
ann.hear("state")
bob.call("task_complete", "type", "state", "result", **held(tests), result={"tests": 12})

# Ann dies.  Her task comes to Bob, who has only to wait for it.
ann.die()
[again] = bob.call("task_claim", *TASK, wait=30)

# She comes back under her name.  Her old token is worth nothing, whatever she believes.
ann = Agent("ann")
ann.call("task_complete", "retryable", **held(docs), result={"pages": 3})
bob.call("task_complete", "type", "state", "result", **held(again), result={"pages": 4})
ann.call("task_claim", *TASK)

ann.leave()
bob.leave()
