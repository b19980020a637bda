-- What the import functions share: locking an import, and saying why it is refused.

-- Lock an import's row, which is also its job's and its run's, and return it.
create or replace function vcs._lock_import(p_code_import_id bigint)
returns vcs._code_import_schedule
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    if p_code_import_id is null then
        perform vcs._refuse_null('code_import', 'code_import_id');
    end if;
    select schedule.* into v_schedule
    from vcs._code_import_schedule as schedule
    where schedule.code_import_id = p_code_import_id
    for no key update;
    if not found then
        perform vcs._refuse_import_gone(p_code_import_id);
    end if;
    return v_schedule;
end;
$$;

create or replace function vcs._refuse_import_gone(p_code_import_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        'IJ404', 'code_import', format('code import %s does not exist', p_code_import_id)
    );
end;
$$;

create or replace function vcs._refuse_import_status(p_schedule vcs._code_import_schedule, p_needed text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        'IJ409', 'code_import',
        format('code import %s is %s, not %s', p_schedule.code_import_id, p_schedule.review_status, p_needed),
        case
            when p_needed = 'reviewed' and p_schedule.review_status = 'failing'
                then 'code_import_try_again lets it run again.'
            when p_needed = 'reviewed'
                then 'code_import_update with the review_status reviewed lets it run.'
        end
    );
end;
$$;

create or replace function vcs._effective_update_interval(p_schedule vcs._code_import_schedule)
returns interval
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(p_schedule.update_interval, vcs._interval_setting('default_interval_' || p_schedule.rcs_type));
end;
$$;
