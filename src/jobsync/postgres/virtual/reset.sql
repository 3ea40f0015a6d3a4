-- Begin anew: no node, no grant, no plan, no steering, no session. Triggers sleep meanwhile.
set session_replication_role = replica;
truncate sync_grant, sync_node, sync_target, sync_lock, sync_steering, sync_rebalance, sync_handover, session restart identity;
update sync_meta set total_tokens = null, hash_function = null, plan_version = 0, lock_version = 0,
    planned_lock_version = 0, steered_version = 0, generation = 1, system_id = null, timeline = null, quarantined = false;
alter sequence sync_epoch restart;
alter sequence dice restart;
set session_replication_role = origin;
unlisten *;
