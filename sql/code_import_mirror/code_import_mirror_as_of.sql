-- What a mirror had at some time, by what has become of it since.

create or replace function vcs.code_import_mirror_as_of(p_code_import_id bigint, p_date timestamptz)
returns table (ref text, value_then text, value_now text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_retention interval := vcs._interval_setting('ref_retention');
begin
    if p_code_import_id is null then
        perform vcs._refuse_null('code_import', 'code_import_id');
    elsif p_date is null then
        perform vcs._refuse_null('code_import_ref_change', 'date');
    elsif p_date > now() then
        perform vcs._refuse_value('code_import_ref_change', 'the date is in the future');
    elsif p_date < vcs._plus(now(), - v_retention) then
        perform vcs._refuse_value(
            'code_import_ref_change', 'the journal of the refs does not reach back so far',
            'It is kept for ref_retention.'
        );
    elsif not exists (select from vcs._code_import as import where import.id = p_code_import_id) then
        perform vcs._refuse_import_gone(p_code_import_id);
    end if;
    return query
    select changed.ref, changed.values_seen[1], changed.values_seen[2]
    from (
        select
            change.ref,
            array[
                (array_agg(change.old_value order by change.id))[1],
                (array_agg(change.new_value order by change.id desc))[1]
            ] as values_seen
        from vcs._code_import_ref_change as change
        where change.code_import_id = p_code_import_id and change.date_created > p_date
        group by change.ref
    ) as changed
    where changed.values_seen[1] is distinct from changed.values_seen[2]
    order by changed.ref;
end;
$$;

comment on function vcs.code_import_mirror_as_of(bigint, timestamptz) is
$$Return what a mirror's refs were at a date, as far as they differ now.

A value is null where the ref was, or is, not there. What is not returned has not changed since.
error   IJ400 a date in the future, or before what ref_retention keeps, or null
error   IJ404 no such import$$;
