/* The ownership of one token, as jobsync implements it: who may BELIEVE to hold it, not only who stands in the table.
 *
 * Claim (after every step): no two processes believe at one instant; and whoever believes stands in the rows, unless those
 * rows come from a server that may lack commits. A process believes while it holds the token and its leases are certain.
 *
 * The planner is left out on purpose: ANY node may ask for the token or give it up at ANY time, which covers every leader,
 * two leaders, stale plans, pins, and lost notifications. What is left out of the rest can only make this model do more
 * than the product, never less; each such step is argued where it is taken, marked (over).
 *
 * Where there is no clock. Every lease L and every wait H of the product meets in one comparison only: has the holder's lease
 * run out when the observer's wait has? timing.pml proves that it has, with clocks and messages, for rules A and B and for the
 * quarantine. Here that lemma is the guard of the three steps that wait (SILENT, ABSENT, OUTWAITED), a lease is one bit, and it
 * may run out at any time. So what is proved here holds for every length of the leases, not for one or two ticks.
 *
 *   rule A      the beats did not change for the whole wait: the last commit that renewed the row lease came before it, and
 *               a lease counts from before the send. So no row lease of that incarnation is left.
 *   rule B      the bound session is absent for the whole wait: what it answered was sent before. So no session lease is left.
 *   quarantine  whoever lifts it saw it first and then waited: every row lease sent to the lost server (bit pre) is over.
 *
 * Switches: SESSION (session lease, rule B), FAILOVER (any number; what the new server knows is arbitrary), TWIN (two processes
 * of one name), LOST_SHRINK (a server that crashes may forget the last shrink, which does not wait for the disk), and one MUT_
 * for each rule that the product must not break. CALM: liveness, see the end. check.py says what is expected of each.
 */
#ifndef N
#define N 2                             /* processes */
#endif
#ifdef TWIN
#define NAMES (N - 1)                   /* the last process carries the name of the one before it */
#define NAME(p) ((p) < N - 1 -> (p) : N - 2)
#else
#define NAMES N
#define NAME(p) (p)
#endif

/* hold: what a process knows of the token (belief.py) */
#define NONE 0
#define HELD 1
#define GIVING 2                        /* believed no more; let go of, or about to be (over: may be told at any time) */

/* inc: who a node's row belongs to; 1 + p is the incarnation of process p */
#define NOBODY 0                        /* no row, or fenced */
#define GHOST (N + 1)                   /* nobody's: the process died, or it never heard that it was registered */

/* reply: what is on its way to a process. A node asks one question at a time (member.py), and waits for nothing else, so a
 * question is applied in the step in which it is sent: between the two the node does nothing that it could not do before.
 * Beats, pings and "not current" change a lease or end a life, and no more: they arrive in the same step. For a lease that is
 * (over): it is counted from before the send, so believing from the commit on is believing sooner than the node does. */
#define SILENCE 0
#define GRANTED 1
#define SHRUNK 2
#define ROW_MINE 3
#define ROW_EMPTY 4
#define REBOUND 5
#define REBOUND_STRANGE 6               /* on another server or timeline than the node knew */
#define REGISTERED 7
#define OLD_REBOUND 8                   /* the same three, and the server that said so is lost since */
#define OLD_REBOUND_STRANGE 9
#define OLD_REGISTERED 10
#define BEATEN 11                       /* mutations only: a beat's answer; a grant asked for and believed */
#define HOPED 12

/* late: a statement of an earlier session, still in its backend's hands. One is enough: a node has one under way, and the
 * next rebind makes it void. A late beat or read changes nothing; a late registration makes a ghost, at any time (over);
 * a late rebind is a step of its own. */
#define LATE_GROW 1
#define LATE_SHRINK 2
#define LATE_LEAVE 3

bit me[N];                              /* registered, as far as the process knows */
byte hold[N];
byte row[N];                            /* the row lease is certain */
bit sess[N];                            /* the session lease is certain */
bit bound[N];                           /* the process has a session that it takes for bound */
bit up[N];                              /* the server has the session that is bound */
byte reply[N];
byte inc[NAMES];
byte late[NAMES];
byte owner;                             /* 0 nobody, 1 + name: the exclusion constraint in one variable */

#ifdef LOST_SHRINK
byte soft;                              /* 1 + the name whose shrink is not on the disk yet */
#endif
#ifdef MUT_ASYNC_GROW
bit unsafe;                             /* the grant is not on the disk yet */
#endif
#ifdef FAILOVER
bit pre[N];                             /* the row lease counts from before the last fail-over */
bit strange[N];                         /* the rows of another server are met, and not yet read */
bit known[N];                           /* the process knows which server it speaks to */
bit carried[NAMES];                     /* the row was not bound since the fail-over: waits may have begun on the lost server */
bit quarantined;
#define STRANGE(p) (strange[p])
#define KNOWN(p) (known[p])
#define QUARANTINED (quarantined)
#else
#define STRANGE(p) (false)
#define KNOWN(p) (true)
#define QUARANTINED (false)
#endif
#ifdef MUT_NO_LOCK
bit doomed[NAMES];
#endif
#ifdef MUT_NO_ATTEMPT
bit stolen[NAMES];
#endif

#ifdef SESSION
#define CERTAIN(p) (row[p] != 0 && sess[p])
#else
#define CERTAIN(p) (row[p] != 0)
#endif
#define BELIEVES(p) (me[p] && hold[p] == HELD && CERTAIN(p))
#if N == 2
#define OVERLAP (BELIEVES(0) && BELIEVES(1))
#else
#define OVERLAP ((BELIEVES(0) && BELIEVES(1)) || (BELIEVES(0) && BELIEVES(2)) || (BELIEVES(1) && BELIEVES(2)))
#endif
#define IN_ROWS(p) (!BELIEVES(p) || !KNOWN(p) || STRANGE(p) || owner == 1 + NAME(p))
#ifdef MUTATION
#define CLAIM (!OVERLAP)                /* so that each mutation is seen to break the promise itself */
#elif N == 2
#define CLAIM (!OVERLAP && IN_ROWS(0) && IN_ROWS(1))
#else
#define CLAIM (!OVERLAP && IN_ROWS(0) && IN_ROWS(1) && IN_ROWS(2))
#endif

#ifdef MUT_NO_INCARNATION
#define CURRENT(p) (inc[NAME(p)] != NOBODY)
#else
#define CURRENT(p) (inc[NAME(p)] == 1 + (p))
#endif
#define FREE_TO_ASK(p) (me[p] && bound[p] && up[p] && reply[p] == SILENCE)

/* --- the three guards that timing.pml proves ---------------------------------------------------------------- */

#if defined(MUT_EARLY) || defined(MUT_DB_CLOCK)
#define SILENT(p) (true)                /* fenced while a lease is left: a wait too short, or a database clock that jumped */
#elif defined(MUT_ACK)
#define SILENT(p) (row[p] != 1)         /* a lease that counts from the answer (2) may outlive the wait */
#else
#define SILENT(p) (row[p] == 0)
#endif
#if defined(MUT_TRUST) || defined(MUT_SHORT_WAIT)
#define ABSENT(p) (!up[p])              /* fenced at once, or after a wait shorter than the holder's lease */
#else
#define ABSENT(p) (!up[p] && !sess[p])
#endif
#define OUTWAITED(p) (!(row[p] != 0 && pre[p]))

/* --- what happens to a row ---------------------------------------------------------------------------------- */

inline make_void(n) {                   /* a new bind: statements of older sessions change nothing from here on */
#if !defined(MUT_NO_BIND) && !defined(MUT_NO_INCARNATION)
  late[n] = 0;
#endif
#ifdef MUT_NO_ATTEMPT
  stolen[n] = 0;
#endif
#ifdef FAILOVER
  carried[n] = 0;
#endif
  skip
}

inline strip(n) {                       /* fence.sql and leave.sql: no grant stands without its row */
  inc[n] = NOBODY;
  if :: owner == 1 + n -> owner = 0 :: else fi;
#ifdef LOST_SHRINK
  if :: soft == 1 + n -> soft = 0 :: else fi;
#endif
#ifndef MUT_NO_INCARNATION
  late[n] = 0;
#endif
#ifdef MUT_NO_ATTEMPT
  stolen[n] = 0;
#endif
#ifdef FAILOVER
  carried[n] = 0;
#endif
  skip
}

inline grant(n) {
  owner = 1 + n;
#ifdef LOST_SHRINK
  soft = 0;                             /* one log: a commit that is flushed is flushed with everything before it */
#endif
#ifdef MUT_ASYNC_GROW
  unsafe = 1;
#endif
  skip
}

inline release(n) {
  owner = 0;
#ifdef LOST_SHRINK
#ifdef MUT_SOFT_IN_QUARANTINE
  soft = 1 + n;
#else
  if :: !QUARANTINED -> soft = 1 + n :: else fi;        /* what is handed back then must not come back from the dead */
#endif
#endif
#ifdef MUT_ASYNC_GROW
  unsafe = 0;
#endif
  skip
}

/* --- what happens to a process ------------------------------------------------------------------------------ */

inline forget(p) {                      /* a life is over: dead, fenced and told so, or left */
  me[p] = 0; hold[p] = NONE; row[p] = 0; sess[p] = 0; bound[p] = 0; up[p] = 0; reply[p] = SILENCE;
#ifdef FAILOVER
  pre[p] = 0; strange[p] = 0; known[p] = 0;
#endif
  skip
}

inline renew_row(p) {                   /* Life._renew_row: a stranger lives on the lease it had */
#ifdef MUT_RENEW_STRANGER
  row[p] = 1;
#else
  if :: !STRANGE(p) -> row[p] = 1 :: else fi;
#endif
#ifdef FAILOVER
  if :: row[p] != 0 && !STRANGE(p) -> pre[p] = 0
#ifdef MUT_RENEW_STRANGER
     :: STRANGE(p) -> pre[p] = 0
#endif
     :: else
  fi;
#endif
  skip
}

inline renew_session(p) {               /* any answer of the bound session */
#ifdef SESSION
  sess[p] = 1;
#endif
  skip
}

inline row_runs_out(p) {                /* Life._let_run_out: what was believed is dropped, what is given stays given */
  row[p] = 0;
#ifdef FAILOVER
  pre[p] = 0;
#endif
  if :: hold[p] == HELD -> hold[p] = NONE :: else fi;
  skip
}

inline session_breaks(p, n) {           /* the process notices; what it had asked is lost, or is carried out late */
  if
  :: true
  :: reply[p] == SILENCE && up[p] && CURRENT(p) && hold[p] == NONE -> late[n] = LATE_GROW
  :: reply[p] == SILENCE && up[p] && CURRENT(p) && hold[p] == NONE -> late[n] = LATE_LEAVE
  :: reply[p] == SILENCE && up[p] && CURRENT(p) && hold[p] == GIVING -> late[n] = LATE_SHRINK
  fi
}

/* --- questions, and what becomes of them --------------------------------------------------------------------- */

inline register(p, n) {                 /* refused while another incarnation stands in the way */
  inc[n] = 1 + p; make_void(n);
  row[p] = 1; up[p] = 1; renew_session(p);
  reply[p] = REGISTERED
}

inline rebind(p, n) {
  if
  :: CURRENT(p) ->
     make_void(n);
     up[p] = 1;
     if
     :: KNOWN(p) -> renew_row(p); renew_session(p); reply[p] = REBOUND
     :: else ->
#ifdef MUT_REVIVE
        row[p] = 1; pre[p] = 0; renew_session(p);
#endif
        reply[p] = REBOUND_STRANGE      /* its leases are told below, after the belief is judged by the old ones */
     fi
  :: else -> forget(p)
  fi
}

inline beat(p) {
  if
#ifdef MUT_ACK
  :: CURRENT(p) -> reply[p] = BEATEN
#else
  :: CURRENT(p) -> renew_row(p); renew_session(p)
#endif
  :: else -> forget(p)
  fi
}

inline grow(p, n) {
  renew_session(p);
  if
  :: CURRENT(p) && !QUARANTINED && owner == 0 -> grant(n);
#ifndef MUT_EARLY_BELIEF
     reply[p] = GRANTED
#else
     reply[p] = SILENCE
#endif
  :: else ->
#ifdef MUT_EARLY_BELIEF
     hold[p] = NONE; reply[p] = SILENCE
#else
     skip
#endif
  fi
}

inline shrink(p, n) {
  if
  :: CURRENT(p) ->
     renew_session(p);
     if :: owner == 1 + n -> release(n) :: else fi;
     reply[p] = SHRUNK
  :: else -> forget(p)
  fi
}

inline read_rows(p, n) {                /* read_grants.sql names the incarnation */
  renew_session(p);
  if
  :: CURRENT(p) && owner == 1 + n -> reply[p] = ROW_MINE
  :: else -> reply[p] = ROW_EMPTY
  fi
}

inline leave(p, n) {                    /* the foreign key refuses it while a grant stands */
  if
  :: CURRENT(p) && owner == 1 + n -> skip
  :: CURRENT(p) && owner != 1 + n -> strip(n); forget(p)
  :: else -> forget(p)
  fi
}

inline settle(p) {                      /* what the rows say: Belief.reconcile, Belief.reconcile_with_stranger */
  if
  :: reply[p] == ROW_EMPTY -> hold[p] = NONE
  :: reply[p] == ROW_MINE && hold[p] == NONE ->
     if :: STRANGE(p) -> hold[p] = GIVING       /* surplus: handed back unused */
        :: else -> hold[p] = HELD
     fi
  :: else
  fi;
#ifdef FAILOVER
  strange[p] = 0;
#endif
  reply[p] = SILENCE
}

inline meet_stranger(p) {               /* Life._meet_stranger */
#ifndef MUT_REVIVE
  strange[p] = 1;
#ifndef MUT_UNBROKEN
  if :: hold[p] == HELD && !CERTAIN(p) -> hold[p] = NONE :: else fi;
#endif
#endif
  bound[p] = 1; renew_session(p)
}

inline hear(p) {
  if
  :: reply[p] == GRANTED -> hold[p] = HELD; reply[p] = SILENCE
  :: reply[p] == SHRUNK -> hold[p] = NONE; reply[p] = SILENCE
  :: reply[p] == ROW_MINE || reply[p] == ROW_EMPTY -> settle(p)
  :: reply[p] == REBOUND || reply[p] == OLD_REBOUND -> bound[p] = 1; reply[p] = SILENCE
#ifdef FAILOVER
  :: reply[p] == REBOUND_STRANGE -> meet_stranger(p); known[p] = 1; reply[p] = SILENCE
  :: reply[p] == OLD_REBOUND_STRANGE -> meet_stranger(p); reply[p] = SILENCE
  :: reply[p] == OLD_REGISTERED -> me[p] = 1; bound[p] = 1; reply[p] = SILENCE
#endif
  :: reply[p] == REGISTERED -> me[p] = 1; bound[p] = 1; reply[p] = SILENCE;
#ifdef FAILOVER
     known[p] = 1;
#endif
     skip
#ifdef MUT_ACK
  :: reply[p] == BEATEN -> reply[p] = SILENCE; if :: STRANGE(p) :: else -> row[p] = 2 fi; renew_session(p)
#endif
  fi
}

/* --- steps ---------------------------------------------------------------------------------------------------- */

inline node_step(p, n) {
  if
  :: !me[p] && reply[p] == SILENCE && inc[n] == NOBODY -> d_step { register(p, n) }
  :: me[p] && !bound[p] && reply[p] == SILENCE -> d_step { rebind(p, n) }
  :: FREE_TO_ASK(p) -> d_step { beat(p) }
#ifdef SESSION
  :: FREE_TO_ASK(p) && !sess[p] -> d_step { renew_session(p) }                      /* a ping reads no row */
#endif
#ifdef MUT_EARLY_BELIEF
  :: FREE_TO_ASK(p) && hold[p] == NONE -> hold[p] = HELD; reply[p] = HOPED
  :: reply[p] == HOPED && up[p] -> d_step { grow(p, n) }
#else
  :: FREE_TO_ASK(p) && hold[p] == NONE -> d_step { grow(p, n) }
#endif
#ifdef MUT_LATE_DISBELIEF
  :: FREE_TO_ASK(p) && hold[p] == HELD -> d_step { shrink(p, n) }
#endif
  :: hold[p] == HELD -> hold[p] = GIVING
  :: FREE_TO_ASK(p) && hold[p] == GIVING -> d_step { shrink(p, n) }
  :: FREE_TO_ASK(p) -> d_step { read_rows(p, n) }
  :: FREE_TO_ASK(p) && hold[p] == NONE -> d_step { leave(p, n) }
  :: reply[p] != SILENCE && reply[p] != HOPED -> d_step { hear(p) }
  fi
}

inline lease_step(p) {
  if
  :: row[p] != 0 -> d_step { row_runs_out(p) }
  :: sess[p] -> sess[p] = 0
  fi
}

inline fault_step(p, n) {
  if
  :: (me[p] && bound[p]) || reply[p] >= REBOUND ->                       /* the process takes its session for broken */
     session_breaks(p, n);
     d_step {
       bound[p] = 0;
       if
       :: reply[p] == REGISTERED || reply[p] == OLD_REGISTERED ->        /* it never hears who it is */
          if :: inc[n] == 1 + p -> inc[n] = GHOST :: else fi;
          forget(p)
       :: else -> reply[p] = SILENCE
       fi
     }
  :: me[p] || reply[p] != SILENCE ->                                     /* a crash; whoever starts again is another one */
     session_breaks(p, n);
     d_step {
       if :: inc[n] == 1 + p -> inc[n] = GHOST :: else fi;
       forget(p)
     }
  :: up[p] -> up[p] = 0                                                  /* the server ends the session, the node not told */
  fi
}

inline late_step(n) {                   /* the old backend gets to it */
  if
  :: late[n] == LATE_GROW && inc[n] != NOBODY && !QUARANTINED && owner == 0 -> d_step { grant(n); late[n] = 0 }
  :: late[n] == LATE_SHRINK && owner == 1 + n -> d_step { release(n); late[n] = 0 }
  :: late[n] == LATE_LEAVE && inc[n] != NOBODY && owner != 1 + n -> d_step { strip(n); late[n] = 0 }
  :: inc[n] == NOBODY -> inc[n] = GHOST                                  /* a late registration */
  fi
}

inline late_rebind_step(p, n) {         /* rebind_attempt: refused once a later attempt was carried out */
  if
  :: me[p] && !bound[p] && reply[p] == SILENCE && CURRENT(p) -> d_step { make_void(n); up[p] = 1 }
#ifdef MUT_NO_ATTEMPT
  :: me[p] && bound[p] && up[p] && CURRENT(p) -> stolen[n] = 1           /* the row names a session that is dead */
#endif
  fi
}

#ifdef MUT_NO_ATTEMPT
#define ROW_NAMES_THE_DEAD(n) (stolen[n])
#else
#define ROW_NAMES_THE_DEAD(n) (false)
#endif
#ifdef FAILOVER
#define CARRIED(n) (carried[n])
#else
#define CARRIED(n) (false)
#endif

inline fence_step(p, n) {               /* by anybody who looks: other nodes, and newcomers (over: all see everything) */
  if
  :: inc[n] == GHOST -> d_step { strip(n) }                                         /* nobody holds a lease of it (over: no wait) */
#ifdef MUT_NO_LOCK
  :: inc[n] == 1 + p && SILENT(p) && !doomed[n] -> doomed[n] = 1         /* looked at now, fenced later */
  :: doomed[n] && inc[n] != NOBODY -> d_step { doomed[n] = 0; strip(n) }
#else
  :: inc[n] == 1 + p && SILENT(p) -> d_step { strip(n) }                            /* rule A */
#endif
#ifdef SESSION
  :: inc[n] == 1 + p && ABSENT(p) -> d_step { strip(n) }                            /* rule B */
  :: inc[n] == 1 + p && ROW_NAMES_THE_DEAD(n) -> d_step { strip(n) }
#endif
  :: inc[n] == 1 + p && CARRIED(n) -> d_step { strip(n) }                           /* a wait that began on the lost server */
  fi
}

inline cut_all() {                      /* every session ends, and with it what backends had in hand */
  p = 0;
  do
  :: p < N -> up[p] = 0; late[NAME(p)] = 0; p++
  :: else -> break
  od;
  p = 0
}

inline server_restarts() {
  d_step { cut_all() };
#ifdef LOST_SHRINK
  if :: soft != 0 -> owner = soft :: true fi;
  soft = 0;
#endif
#ifdef MUT_ASYNC_GROW
  if :: unsafe -> owner = 0 :: true fi;
  unsafe = 0;
#endif
  skip
}

#ifdef FAILOVER
/* The old primary is fenced off: nothing is committed there any more. The new one knows some earlier state of the rows;
 * which one is not remembered: the new rows are anything that the constraints allow (over). Answers already under way arrive.
 * The quarantine is on from here, though it is the first rebind or registration that sets it: before that nobody on the new
 * server can be granted anything; and the wait of whoever lifts it can only begin later (over). */
inline fail_over() {
  d_step {
  cut_all();
  do
  :: p < N ->
     known[p] = 0;
     pre[p] = (row[p] != 0);
     if
     :: reply[p] == REBOUND -> reply[p] = OLD_REBOUND
     :: reply[p] == REBOUND_STRANGE -> reply[p] = OLD_REBOUND_STRANGE
     :: reply[p] == REGISTERED -> reply[p] = OLD_REGISTERED
     :: else
     fi;
     p++
  :: else -> break
  od;
  p = 0; owner = 0
  };
  do
  :: n < NAMES ->
     inc[n] = NOBODY;
     if
     :: true
     :: inc[n] = GHOST
     :: (me[n] || reply[n] == OLD_REGISTERED) -> inc[n] = 1 + n
#ifdef TWIN
     :: n == N - 2 && (me[N - 1] || reply[N - 1] == OLD_REGISTERED) -> inc[n] = N
#endif
     fi;
     carried[n] = (inc[n] != NOBODY);
     if
     :: true
     :: inc[n] != NOBODY && owner == 0 -> owner = 1 + n
     fi;
     n++
  :: else -> break
  od;
  n = 0;
#ifdef LOST_SHRINK
  soft = 0;
#endif
#ifdef MUT_NO_LOCK
  doomed[0] = 0; doomed[1] = 0;
#endif
#ifndef MUT_NO_QUARANTINE
  quarantined = 1;
#endif
  skip
}

inline lift_quarantine() {
  quarantined = 0;
  do
  :: p < N -> pre[p] = 0; p++
  :: else -> break
  od;
  p = 0
}
#if N == 2
#define ALL_OUTWAITED (OUTWAITED(0) && OUTWAITED(1))
#else
#define ALL_OUTWAITED (OUTWAITED(0) && OUTWAITED(1) && OUTWAITED(2))
#endif
#endif

#define ANY_PROCESS if :: p = 0 :: p = 1 PROCESS_2 fi; n = NAME(p)
#if N == 2
#define PROCESS_2
#else
#define PROCESS_2 :: p = 2
#endif

#ifdef CALM

/* --- liveness: after the faults every token that can be placed is held -------------------------------------------
 *
 * At some moment the storm ends: the plan wants the token for one process that runs (target); the other runs, or is gone for good.
 * From then on only steps that change something are listed, and each only where the product takes it by itself: a node hears,
 * binds anew when a deadline passes, reads rows that it does not know, gives up what is not its, grows, beats; what cannot
 * be renewed runs out; ghosts are fenced; the quarantine is lifted. Two things are checked, and together they are the claim:
 *   there is no circle of such steps (pan -l finds none without a step of the storm), and
 *   where no step is left the target believes in the token; nothing can take it from there.
 * So it is held in the end in every run in which whatever can be done is done at some time, which is less than weak fairness. */

byte target;
bit gone[N];

#define SETTLED (BELIEVES(target))
#define ASKS(p) (!gone[p] && FREE_TO_ASK(p))
#ifdef FAILOVER
#define IS_PRE(p) (pre[p])
#else
#define IS_PRE(p) (false)
#endif
#ifdef SESSION
#define LACKS_SESSION(p) (!sess[p])
#else
#define LACKS_SESSION(p) (false)
#endif

#define CALM_STEPS(p, n) \
  :: atomic { !gone[p] && reply[p] != SILENCE -> d_step { hear(p) } } \
  :: atomic { !gone[p] && !me[p] && reply[p] == SILENCE && inc[n] == NOBODY -> d_step { register(p, n) } } \
  :: atomic { !gone[p] && me[p] && !bound[p] && reply[p] == SILENCE -> d_step { rebind(p, n) } } \
  :: atomic { !gone[p] && me[p] && bound[p] && !up[p] && reply[p] == SILENCE -> bound[p] = 0 } \
  :: atomic { ASKS(p) && hold[p] == HELD && target != p -> hold[p] = GIVING } \
  :: atomic { ASKS(p) && hold[p] == GIVING -> d_step { shrink(p, n) } } \
  :: atomic { ASKS(p) && CURRENT(p) && target == p && hold[p] == NONE && owner == 0 && !QUARANTINED -> d_step { grow(p, n) } } \
  :: atomic { ASKS(p) && !CURRENT(p) -> d_step { beat(p) } } \
  :: atomic { ASKS(p) && CURRENT(p) && !STRANGE(p) && (row[p] == 0 || IS_PRE(p)) -> d_step { beat(p) } } \
  :: atomic { ASKS(p) && LACKS_SESSION(p) -> d_step { renew_session(p) } } \
  :: atomic { ASKS(p) && CURRENT(p) && (STRANGE(p) || (owner == 1 + n && hold[p] == NONE) || (owner != 1 + n && hold[p] == HELD)) \
       -> d_step { read_rows(p, n) } } \
  :: atomic { row[p] != 0 && (STRANGE(p) || !CURRENT(p) || !bound[p]) && reply[p] == SILENCE -> d_step { row_runs_out(p) } } \
  :: atomic { sess[p] && !up[p] -> sess[p] = 0 } \
  :: atomic { inc[n] == 1 + p && me[p] && !bound[p] && row[p] == 0 -> d_step { strip(n) } }

active proctype world() {
  byte p, n;
storm:
  do
  :: atomic {
       ANY_PROCESS;
       if
       :: node_step(p, n)
       :: lease_step(p)
       :: fault_step(p, n)
       :: late_step(n)
       :: late_rebind_step(p, n)
       :: fence_step(p, n)
       :: true
       fi;
       p = 0; n = 0
     };
progress_node: skip
  :: atomic { server_restarts() };
progress_server: skip
#ifdef FAILOVER
  :: atomic { fail_over() };
progress_fail_over: skip
  :: atomic { quarantined && ALL_OUTWAITED -> d_step { lift_quarantine() } };
progress_lift: skip
#endif
  :: atomic {
       ANY_PROCESS;
       target = p;
       if
       :: true
       :: gone[1 - p] = 1; p = 1 - p; n = NAME(p);
          if :: inc[n] == 1 + p -> inc[n] = GHOST :: else fi;
          d_step { forget(p) }
       fi;
       p = 0; n = 0
     };
     break
  od;
end:
  do
  CALM_STEPS(0, 0)
  CALM_STEPS(1, 1)
#ifndef MUT_NEVER_FENCED
  :: atomic { inc[0] == GHOST -> d_step { strip(0) } }
  :: atomic { inc[1] == GHOST -> d_step { strip(1) } }
#endif
#ifdef MUT_FICKLE_PLAN
  :: atomic { !gone[0] && !gone[1] -> target = 1 - target }              /* a plan that is never at rest */
#endif
  :: atomic { late[0] == LATE_GROW && owner == 0 && !QUARANTINED && inc[0] != NOBODY -> d_step { grant(0); late[0] = 0 } }
  :: atomic { late[1] == LATE_GROW && owner == 0 && !QUARANTINED && inc[1] != NOBODY -> d_step { grant(1); late[1] = 0 } }
#ifdef FAILOVER
#ifndef MUT_NEVER_LIFTED
  :: atomic { quarantined && ALL_OUTWAITED -> d_step { lift_quarantine() } }
#endif
#endif
  :: else -> assert(SETTLED); break
  od
}

#else

active proctype world() {
  byte p, n;
end:
  do
  :: atomic {
       ANY_PROCESS;
       if
       :: node_step(p, n)
       :: lease_step(p)
       :: fault_step(p, n)
       :: late_step(n)
       :: late_rebind_step(p, n)
       :: fence_step(p, n)
       :: true                                                            /* nothing to do for this one */
       fi;
       p = 0; n = 0;
       assert(CLAIM)
     }
  :: atomic { server_restarts(); assert(CLAIM) }
#ifdef FAILOVER
  :: atomic { fail_over(); assert(CLAIM) }
  :: atomic { quarantined && ALL_OUTWAITED -> d_step { lift_quarantine() }; assert(CLAIM) }
#endif
  od
}

#endif
