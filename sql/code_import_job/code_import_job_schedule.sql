-- An operator pins a job to one machine, or gives it a place in the order.

create or replace function vcs.code_import_job_schedule(
    p_job_id     bigint,
    p_machine_id bigint,
    p_ordering   integer default null,
    p_person     text    default null
)
returns vcs.code_import_job
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._check_optional_person('code_import_job', p_person);
    if p_machine_id is not null then
        perform vcs._lock_machine(p_machine_id);
        -- Written, not only locked: a deletion of the machine on an older snapshot, which does not
        -- see the pin, has to fail.
        update vcs._code_import_machine as machine
        set state = machine.state
        where machine.id = p_machine_id;
    end if;
    perform vcs._pin_job(p_job_id, p_machine_id, p_ordering, p_person);
    return vcs._job(p_job_id);
end;
$$;

comment on function vcs.code_import_job_schedule(bigint, bigint, integer, text) is
$$Pin a waiting job to a machine (null: to none), order it, and return it.

state   pending or scheduled -> scheduled, or pending without a machine
event   modify, if anything changed
error   IJ400 a person that is no name, or a null job_id
error   IJ404 no such machine
error   IJ409 the job is running
error   IJ410 no such job$$;
