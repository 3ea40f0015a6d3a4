"""`Job`: one node of the fleet, as an application uses it.

A job is entered with `with`. From then on it answers, locally and from any thread, which tasks are this node's *now*.
The answer is evaluated at the instant of the question on the node's own clocks, so a process that was paused, cut
off or fenced answers no. Not promised: that the answer still holds an instant later, when the caller acts on it. For
effects in the database there is `transaction`, which decides by locks and not by clocks.
"""

from jobsync.api.compat import OlderForms
from jobsync.api.health import HealthMethods
from jobsync.api.leader_methods import LeaderMethods
from jobsync.api.lock_methods import LockMethods
from jobsync.api.task_methods import TaskMethods


class Job(OlderForms, HealthMethods, TaskMethods, LockMethods, LeaderMethods):
    """One node in one process: registers, owns tokens, works on the tasks that hash to them, hands over, leaves.

    `node_name` must be unique among the live nodes of a fleet. `environment` is a label for logs. `coordination_config`
    gives the settings; None makes the job stand alone; omitted, `config` and the environment decide. `config` is an
    object, a module or a mapping of the older shape (`config.sync.sql.host`); it may also be the second argument.
    `date` (date, datetime or ISO text) is the day worked for, by default the database's date at enter. `wait_on_enter`
    None waits only until the node has its first tokens; a number of seconds is a grace period, waited in full.
    `run` names a batch within which each task is done once. `observer` joins nothing and only looks.
    `handle_signals=True` turns SIGTERM and SIGINT into `stop()` while the job is entered in the main thread. Where a
    `config` was given and nobody handles SIGTERM, it raises SystemExit there by default, so that `with` unwinds.

    `on_tokens_added(set)`, `on_tokens_removed(set)` and `on_rebalance()` (or `on_rebalance(event)`) are called on one
    background thread, never two at once, removed before added. `lock_provider(job)` runs once, before the node
    joins; with `clear_existing_locks` the locks that this name created before are cleared in the same change.

    Raises InvalidArgument or InvalidSettings at once for bad arguments. Entering raises DatabaseUnavailable,
    SchemaError, NodeNameInUse, ConfigMismatch or EnterTimeout.
    """
