#!/usr/bin/python3
import sys
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from lib import *
r = Results()
S = int(sys.argv[1]); R=1
t=time.time()
with fresh("base") as db: pass
print("base", time.time()-t); t=time.time()
with fresh("base") as db: pass
print("base copy", time.time()-t); t=time.time()
with fresh("stock") as db: pass
print("stock", time.time()-t); t=time.time()
with fresh("stock") as db: print(rows(db, "select relname, pg_total_relation_size(oid) from pg_class where relname in ('task_live','job')"))
print("stock copy", time.time()-t); t=time.time()
r.compare("queue","pairs/s",[Side("floor","floor"),Side("textbook","queue_textbook"),Side("coord","queue_coord",queues=1,count=lambda db: calls(db,"task_complete"))],template="stock",clients=(16,),rounds=R,seconds=S)
r.compare("batch","claims/s",[Side("textbook","batch_textbook",times=50),Side("coord","batch_coord",times=50)],template="stock",clients=(16,),rounds=R,seconds=S, transactions=3000)
r.compare("lease","pairs/s",[Side("textbook","lease_textbook",keys=10000),Side("coord","lease_coord",keys=10000)],clients=(16,),rounds=R,seconds=S)
r.compare("hb","/s",[Side("1","select_1"),Side("coord","heartbeat_coord")],clients=(16,),rounds=R,seconds=S)
r.compare("cycle","/s",[Side("1","cycle_textbook"),Side("coord","cycle_coord")],clients=(16,),rounds=R,seconds=S)
r.compare("ev","/s",[Side("1","event_insert"),Side("n","event_notify"),Side("coord","event_send"),Side("create","task_create")],clients=(16,),rounds=R,seconds=S)
r.write("/dev/stdout")
