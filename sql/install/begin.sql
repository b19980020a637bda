-- One transaction and one installer at a time. Every file after this one runs as the owner.

\set ON_ERROR_ROLLBACK off
\set QUIET on
\encoding UTF8

begin isolation level read committed, read write;
\ir settings.sql
do $$ begin perform pg_advisory_xact_lock(hashtextextended('code_import.install', 0)); end $$;
\ir ../roles.sql
set local lock_timeout = '5s';
\ir marks.sql
