-- The same for every installer, whatever the role or the database has set.

set local search_path = vcs;
set local timezone = 'UTC';
set local datestyle = 'ISO, YMD';
set local client_min_messages = warning;
set local check_function_bodies = on;
set local standard_conforming_strings = on;
set local statement_timeout = 0;
set local lock_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
