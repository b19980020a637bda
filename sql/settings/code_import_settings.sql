-- The settings: what they are called, their defaults, and how their text is read.

-- Text as the type of its setting. A hosts list needs no parsed form: both come back null.
-- Raises what the type's own input raises; _setting_refusal catches it.
create or replace function vcs._setting_parsed(
    p_kind text,
    p_text text,
    out interval_value interval,
    out number_value bigint
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
begin
    case p_kind
        when 'interval' then interval_value := p_text::interval;
        when 'count' then number_value := p_text::integer;
        when 'size' then number_value := pg_size_bytes(p_text);
        else null;
    end case;
end;
$$;

insert into vcs._code_import_setting as setting
    (name, kind, default_value, description, interval_value, number_value)
select
    given.name, given.kind, given.default_value, given.description,
    parsed.interval_value, parsed.number_value
from (
    values
        ('maximum_heartbeat_interval', 'interval', '300 s',
            'A running job whose heartbeat is older may be reclaimed.'),
        ('consecutive_failure_limit', 'count', '5',
            'An import that fails more often than this in a row turns failing.'),
        ('maximum_retry_interval', 'interval', '30 days',
            'The longest wait after failures, unless the interval itself is longer.'),
        ('default_interval_git', 'interval', '6 h', 'Time from run to run of a git import without its own.'),
        ('default_interval_svn', 'interval', '6 h', 'Time from run to run of a svn import without its own.'),
        ('default_interval_hg', 'interval', '6 h', 'Time from run to run of a hg import without its own.'),
        ('default_interval_bzr', 'interval', '6 h', 'Time from run to run of a bzr import without its own.'),
        ('default_interval_cvs', 'interval', '12 h', 'Time from run to run of a cvs import without its own.'),
        ('logtail_limit', 'size', '64 kB', 'How much of a log tail a job keeps: the newest bytes.'),
        ('log_file_limit', 'size', '16 MB', 'How much of a whole log is kept: the last bytes.'),
        ('event_retention', 'interval', '30 days', 'How long events are kept, or a little longer: they go by the day or so.'),
        ('result_retention', 'interval', '30 days', 'How long results are kept, or a little longer; as long as events at least.'),
        ('log_retention', 'interval', '30 days', 'How long whole logs are kept, or a little longer.'),
        ('results_kept', 'count', '5', 'The newest results of each import that stay, however old.'),
        ('ref_retention', 'interval', '90 days',
            'How long the journal of refs is kept, and in a mirror what its refs were; or a little longer.'),
        ('maximum_loss_percent', 'count', '50',
            'A run that would lose more of a mirror''s branches, tags or commits holds that back.'),
        ('verification_interval', 'interval', '30 days',
            'Time from one reading of a whole mirror to the next.'),
        ('consecutive_reclaim_limit', 'count', null,
            'An import reclaimed this often in a row turns failing; null: never.'),
        ('machine_silent_after', 'interval', null,
            'A machine silent for longer is taken offline by tidy-up; null: never.'),
        ('excluded_hosts', 'hosts', 'localhost, 127.0.0.1',
            'Hosts, with their subdomains, from which workers fetch nothing.')
) as given (name, kind, default_value, description)
cross join lateral vcs._setting_parsed(given.kind, given.default_value) as parsed
on conflict (name) do update
set kind = excluded.kind,
    default_value = excluded.default_value,
    description = excluded.description,
    interval_value = case when setting.value is null then excluded.interval_value else setting.interval_value end,
    number_value = case when setting.value is null then excluded.number_value else setting.number_value end
where (setting.kind, setting.default_value, setting.description)
    is distinct from (excluded.kind, excluded.default_value, excluded.description);

create or replace view vcs.code_import_settings as
select
    setting.name,
    coalesce(setting.value, setting.default_value) as value,
    setting.default_value,
    setting.description
from vcs._code_import_setting as setting;

comment on view vcs.code_import_settings is
    'The settings: one row each, changed by code_import_configure.';
comment on column vcs.code_import_settings.value is
    'The value in force, as text in PostgreSQL''s own forms: 300 s, 64 kB, a list with commas.';
