-- So that an install alone has partitions.
do $$
begin
    perform vcs._make_partitions(history.parent, history.key, history.retention)
    from vcs._history() as history
    where pg_try_advisory_xact_lock(hashtextextended('code_import.history', 0));
end;
$$;
