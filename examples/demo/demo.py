"""The audit's five scenarios and its recovery story, replayed live.

"make demo" starts this on a throw-away cluster.  It shows each call as SQL, what
came back, and how late everything was that was to happen at an instant; it ends
with status 1 when any check failed.  The names, ids and payloads are those of
the audit of 2026-02-23; its TTL of 20 s is 3 s here.  DEMO_TTL=20 gives it back.
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import psycopg2

from console import Listener, Report, Session, as_json, ms, now

TTL = f"{float(os.environ.get('DEMO_TTL', 3)):g} s"
TTL_DELTA = timedelta(seconds=float(TTL.split()[0]))
JUST_BEFORE = timedelta(milliseconds=100)

AUDITED = "86a8c03d-26cb-4484-a87a-fb5061dfa74a"        # failure-recovery-agent
REVIEWER = "28a5d3df-6104-4009-8f3a-897671ea28d7"       # qwen-reviewer
ASSISTANT = "02d91ea8-98d9-434f-8e02-7f598897e908"      # qwen-assistant
E2E = "fe2e622e-a0f9-4ede-9236-20eaa2325171"            # mcp-e2e-agent

REGISTER = ("SELECT * FROM coord.agent_register(%s, %s, heartbeat_timeout => %s, id => %s)")
ACQUIRE = "SELECT * FROM coord.lease_acquire(%s, %s, ttl => %s)"
SEND = ("SELECT * FROM coord.event_send(type => %s, severity => %s, recipient_id => %s, "
        "channel => %s, payload => %s)")
LEASE = ("id", "resource_key", "state", "fencing_token", "expires_at")
TASK = ("id", "state", "agent_id", "attempts", "fencing_token", "lease_expires_at", "resource_key")
EVENT = ("id", "type", "severity", "recipient_id", "channel", "created_at")

report = Report()


def watch_flip(session, sql, key, before, instant):
    """Reads again and again from just before that instant until the value is no
    longer the one before it.  Returns when the last read of the old value began
    and when the first of the new one ended, by the server's clock."""
    old = None
    while True:
        began = session.query("SELECT clock_timestamp() AS t")[0]["t"]
        value = session.query(sql, key)[0]["value"]
        ended = session.query("SELECT clock_timestamp() AS t")[0]["t"]
        if value != before:
            return old or began, ended, value
        old = began
        if ended > instant + timedelta(seconds=1):
            return began, ended, value


def check_flip(session, sql, key, before, after, instant):
    """To the millisecond for whoever asks: never the old value past the instant,
    never the new one before it."""
    old, new, value = watch_flip(session, sql, key, before, instant)
    report.check(f"read as '{before}' until {ms(old - instant):+.1f} ms of that instant, "
                 f"as '{value}' from {ms(new - instant):+.1f} ms",
                 value == after and old <= instant <= new)


def register_the_agents(session):
    report.title("The agents of the audit")
    for name, kind, agent_id in (
            ("failure-recovery-agent", "resilience-tester", AUDITED),
            ("qwen-reviewer", "code-reviewer", REVIEWER),
            ("qwen-assistant", "general-purpose", ASSISTANT),
            ("mcp-e2e-agent", "cli", E2E),
            ("codex-orchestrator", "orchestrator", None)):
        agent = session.ask(REGISTER, name, kind, "5 min", agent_id,
                            show=("id", "name", "type", "status"))[0]
        report.check(f"{name} is registered and active",
                     agent["status"] == "active" and agent_id in (None, agent["id"]))


def lock_ttl_and_crash_recovery(session):
    report.title(f"1. Lock TTL and crash recovery: three locks, and no heartbeat for {TTL}")
    listener = Listener(channel="coord.locks")
    leases = [session.ask(ACQUIRE, f"test-lock-ttl-{n}", AUDITED, TTL, show=LEASE)[0]
              for n in (1, 2, 3)]
    for lease in leases:
        report.check(f"{lease['resource_key']} is active and ends {TTL} after it was acquired",
                     lease["state"] == "active" and lease["expires_at"] - lease["acquired_at"] == TTL_DELTA)
    refused = session.ask(ACQUIRE, "test-lock-ttl-1", REVIEWER, TTL, show=LEASE)
    report.check("nobody else gets one of them meanwhile", refused == [])

    first, deadline = leases[0], leases[0]["expires_at"]
    report.say(f"waiting until {deadline.isoformat()}")
    listener.wait_until(deadline - JUST_BEFORE)
    check_flip(session, "SELECT state AS value FROM coord.lease WHERE id = %s",
               first["id"], "active", "expired", deadline)
    for lease in leases:
        events = listener.take("lock.expired", lease_id=lease["id"])
        if report.check(f"lock.expired was announced for {lease['resource_key']}", events != []):
            report.say(as_json(events[0]["payload"]))
            report.check("it went to the agent that held it", events[0]["recipient_id"] == AUDITED)
            report.check("it names the same expires_at", datetime.fromisoformat(
                events[0]["payload"]["expires_at"]) == lease["expires_at"])
            report.check_late("received after expires_at", events[0]["received"] - lease["expires_at"])

    for lease, agent_id in zip(leases, (REVIEWER, AUDITED)):
        again = session.ask(ACQUIRE, lease["resource_key"], agent_id, TTL, show=LEASE)[0]
        report.check("the new lock has a new id and a higher fencing token",
                     again["id"] != lease["id"] and again["fencing_token"] > lease["fencing_token"])


def ask_rpc(session, method, **params):
    """One request of JSON-RPC, and the response, both shown."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    response = session.ask("SELECT coord.rpc(%s) AS response", json.dumps(request), show=("response",))[0]["response"]
    report.check("the response is JSON-RPC: jsonrpc, the id, and one of result and error, an object",
                 (response.get("jsonrpc"), response.get("id")) == ("2.0", 1) and len(response) == 3
                 and isinstance(response.get("result", response.get("error")), dict))
    return response


def task_claim(session):
    report.title("2. Task claim, with the audit's payload, over JSON-RPC")
    payload = {"task_id": "798365ca-c85d-498f-ad6c-3417b29a8a44", "agent_id": AUDITED,
               "resource_key": "task-798365ca-failure-recovery", "lease_ttl": 60}
    ask_rpc(session, "task.create", type="failure-recovery", queue="audit", id=payload["task_id"])
    task = ask_rpc(session, "task.claim", **payload)["result"]["tasks"][0]
    report.check("the task is claimed by that agent",
                 (task["id"], task["state"], task["agent_id"]) == (payload["task_id"], "claimed", AUDITED))
    report.check("for 60 s", datetime.fromisoformat(task["lease_expires_at"])
                 - datetime.fromisoformat(task["claimed_at"]) == timedelta(seconds=60))
    held = session.ask("SELECT * FROM coord.lease WHERE resource_key = %s AND state = 'active'",
                       payload["resource_key"], show=LEASE)
    report.check("its resource is leased with it", [r["agent_id"] for r in held] == [AUDITED])
    error = ask_rpc(session, "task.claim", **{**payload, "agent_id": ASSISTANT})["error"]
    report.check("a second claimant is told that it is held: code 1002, an integer, and by whom",
                 (error["code"], error["data"]["holder"]) == (1002, AUDITED))
    done = ask_rpc(session, "task.complete", task_id=task["id"], fencing_token=task["fencing_token"],
                   result={"claimed": True})["result"]
    report.check("it is completed", done["state"] == "completed")


def stale_agent(session):
    report.title(f"3. Stale agent: no heartbeat for {TTL}")
    listener = Listener(channel="coord.agents")
    session.ask(REGISTER, "failure-recovery-agent", "resilience-tester", TTL, AUDITED,
                show=("id", "name", "status", "heartbeat_timeout"))
    agent = session.ask("SELECT * FROM coord.agent_heartbeat(%s)", AUDITED,
                        show=("id", "name", "status", "last_heartbeat_at"))[0]
    report.check("the agent is active, and its id is the same",
                 (agent["id"], agent["status"]) == (AUDITED, "active"))
    deadline = agent["last_heartbeat_at"] + agent["heartbeat_timeout"]
    report.say(f"no more heartbeats; waiting until {deadline.isoformat()}")
    listener.wait_until(deadline - JUST_BEFORE)
    check_flip(session, "SELECT status AS value FROM coord.agent WHERE id = %s",
               AUDITED, "active", "inactive", deadline)
    events = listener.take("agent.inactive", agent_id=AUDITED)
    if report.check("agent.inactive was announced", events != []):
        report.check_late("received after the timeout", events[0]["received"] - deadline)
    session.ask("SELECT * FROM coord.agent WHERE id = %s", AUDITED, show=("id", "name", "type", "status"))
    back = session.ask("SELECT * FROM coord.agent_heartbeat(%s)", AUDITED, show=("id", "name", "status"))[0]
    events = listener.take("agent.active", agent_id=AUDITED)
    report.check("a heartbeat brings it back, which is announced too",
                 back["status"] == "active" and events != [])
    session.ask(REGISTER, "failure-recovery-agent", "resilience-tester", "5 min", AUDITED,
                show=("id", "status", "heartbeat_timeout"))


def duplicate_owner(session):
    report.title("4. Duplicate owner: the same agent acquires the same lock twice")
    first, second = (session.ask(ACQUIRE, "contention-test-lock", AUDITED, TTL, show=LEASE)[0]
                     for _ in range(2))
    report.check("the second call renewed: the same lock id and the same fencing token",
                 all(first[k] == second[k] for k in ("id", "fencing_token")))
    report.check("it expires later", second["expires_at"] > first["expires_at"])
    other = session.ask(ACQUIRE, "contention-test-lock", ASSISTANT, TTL, show=LEASE)
    report.check("another agent does not get it", other == [])
    owners = session.ask("SELECT id, agent_id FROM coord.lease "
                         "WHERE resource_key = 'contention-test-lock' AND state = 'active'")
    report.check("it has one owner", [row["agent_id"] for row in owners] == [AUDITED])


def routed_notifications(session):
    report.title("5. Routed notifications: by recipient, by channel")
    for_reviewer, for_e2e = Listener(recipient_id=REVIEWER), Listener(recipient_id=E2E)
    for_channel = Listener(channel="recovery-alerts")
    sent = []
    for severity, recipient, name, subject, listener in (
            ("warning", REVIEWER, "qwen-reviewer", "Lock Expiry Confirmed", for_reviewer),
            ("info", E2E, "mcp-e2e-agent", "Test Status Update", for_e2e)):
        payload = {"from": "failure-recovery-agent", "to": name, "subject": subject}
        event = session.ask(SEND, "recovery.alert", severity, recipient, "recovery-alerts",
                            json.dumps(payload), show=EVENT)[0]
        got = listener.take("recovery.alert")
        sent.append(event["id"])
        report.check("recipient and channel are kept",
                     (event["recipient_id"], event["channel"]) == (recipient, "recovery-alerts"))
        if report.check("who listens for that recipient received it",
                        [e["id"] for e in got] == [event["id"]]):
            report.check_late("received after it was created", got[0]["received"] - event["created_at"])
    got = for_channel.take("recovery.alert", count=2)
    report.check("who listens to the channel received both, in order",
                 [e["id"] for e in got] == sent)
    listed = session.ask("SELECT * FROM coord.event_list(recipient_id => %s)", REVIEWER,
                         show=EVENT + ("payload",))
    report.check("it is listed for its recipient, with its payload", any(
        row["id"] == sent[0] and row["payload"]["subject"] == "Lock Expiry Confirmed"
        for row in listed))
    listed = session.query("SELECT * FROM coord.event_list(channel => 'recovery-alerts')")
    report.check("both are listed for their channel",
                 [row["id"] for row in listed] == sent)
    chat = session.ask("SELECT * FROM coord.event_send(type => 'chat.message', "
                       "channel => 'phase-a-alpha', payload => %s)",
                       json.dumps({"from": "codex-orchestrator", "to": "qwen-assistant"}), show=EVENT)[0]
    report.check("payload.to alone addresses an event too", chat["recipient_id"] == ASSISTANT)


def killed_agent(session):
    report.title("6. Recovery: an agent is killed with kill -9 while it works on a task")
    listener = Listener(channel="coord.tasks")
    crashing = session.query("SELECT id FROM coord.agent WHERE name = 'codex-orchestrator'")[0]["id"]
    session.ask("SELECT * FROM coord.queue_set('recovery', backoff_base => '100 ms')",
                show=("name", "backoff_base"))
    created = session.ask("SELECT * FROM coord.task_create(type => 'review', queue => 'recovery')",
                          show=("id", "queue", "state"))[0]
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crashing_agent.py")),
         crashing, "recovery", TTL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        claim = json.loads(process.stdout.readline() or "{}")
    finally:
        process.kill()
        process.wait()
    report.say(f"process {process.pid} said {json.dumps(claim)}")
    if not report.check("codex-orchestrator, in a process of its own, claimed it",
                        claim.get("task_id") == created["id"]):
        return
    report.check(f"kill -9 {process.pid}: the process is gone", process.returncode == -9)
    deadline = datetime.fromisoformat(claim["lease_expires_at"])
    row = session.ask("SELECT * FROM coord.task WHERE id = %s", created["id"], show=TASK)[0]
    report.check("its claim stands until its lease runs out",
                 row["state"] == "claimed" or now() > deadline)

    report.say(f"waiting for task.requeued, due at {deadline.isoformat()}")
    events = listener.take("task.requeued", until=deadline + timedelta(seconds=10), task_id=created["id"])
    if not report.check("task.requeued was announced", events != []):
        return
    report.say(as_json(events[0]["payload"]))
    report.check("because its lease expired", events[0]["payload"]["reason"] == "lease_expired")
    report.check_late("received after the lease ran out", events[0]["received"] - deadline)
    listener.wait_until(datetime.fromisoformat(events[0]["payload"]["run_at"]))

    task = session.ask("SELECT * FROM coord.task_claim(agent_id => %s, queue => 'recovery')",
                       ASSISTANT, show=TASK)[0]
    report.check("qwen-assistant gets the task, as its second attempt",
                 (task["id"], task["attempts"]) == (created["id"], 2))
    report.check("with a higher fencing token", task["fencing_token"] > claim["fencing_token"])
    error = session.ask_refused("SELECT coord.task_complete(%s, %s)", created["id"], claim["fencing_token"])
    report.check("the late completion by the first agent's token is refused (55000)",
                 error is not None and error.pgcode == "55000")
    done = session.ask("SELECT * FROM coord.task_complete(%s, %s, result => %s)", created["id"],
                       task["fencing_token"], json.dumps({"by": "qwen-assistant"}),
                       show=("id", "state", "agent_id", "result"))[0]
    report.check("the second agent's completion stands", done["state"] == "completed")


def main():
    began = time.monotonic()
    session = Session()
    session.ask("CREATE EXTENSION IF NOT EXISTS coord")
    for scene in (register_the_agents, lock_ttl_and_crash_recovery, task_claim, stale_agent,
                  duplicate_owner, routed_notifications, killed_agent):
        try:
            scene(session)
        except (psycopg2.Error, LookupError) as error:
            report.check(f"{scene.__name__} stopped: {type(error).__name__}: {str(error).strip()}", False)
    report.title(f"{report.passed} checks ok, {report.failed} failed, "
                 f"in {time.monotonic() - began:.1f} s")
    sys.exit(1 if report.failed or not report.passed else 0)


if __name__ == "__main__":
    main()
