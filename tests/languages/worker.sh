#!/usr/bin/env bash
# A worker in bash 5.1 and psql: worker.sh HOSTNAME COMMAND... runs `COMMAND... URL` for one import
# after the other; exit code 0 is a success. PG* variables name the database.
set -u
hostname=$1 beat=${BEAT:-15} log=$(mktemp) job='' status='' tail='' over=''; shift
trap 'over=yes' TERM INT  # its run is released
trap 'rm -f "$log" "$log.error"' EXIT

ask() {  # One statement: leaves its row and SQLSTATE; false unless it was done, or refused by us.
    row=$(psql -XAtq -F ' ' -v hostname="$hostname" -v job="$job" -v status="$status" \
        -v tail="$tail" 2>"$log.error" <<<"$1;"$'\n\\echo :SQLSTATE')
    sqlstate=${row##*$'\n'} row=${row%"${row##*$'\n'}"} row=${row%$'\n'}
    [[ $sqlstate == 00000 || $sqlstate == IJ410 ]] || cat "$log.error" >&2
    [[ $sqlstate == 00000 || $sqlstate == IJ* ]]
}

ask "select vcs.code_import_job_reclaim(id) from vcs.code_import_assignment where machine_id =
    (select id from vcs.code_import_machine where hostname = :'hostname')"  # of an earlier life
while [[ ! $over ]]; do
    ask "select id, url from vcs.code_import_job_for_machine(:'hostname', 1, '{git}')"
    if [[ ! $row ]]; then
        ask "select greatest(1, extract(epoch from least(now() + '$beat s',
            vcs.code_import_job_next_due(:'hostname', '{git}')) - now()))"
        sleep "${row:-5}" & wait $!; kill $! 2>/dev/null; continue
    fi
    read -r job url <<<"$row"
    setsid "$@" "$url" >"$log" 2>&1 & work=$! status=''  # leads a process group
    while [[ ! $status ]]; do
        sleep "$beat" & wait -n -p ended "$work" $!; code=$?; kill $! 2>/dev/null
        [[ ${ended-} == "$work" ]] && { ((code)) && status=failure || status=success; }
        tail=$(tail -c 4000 "$log" | tr -cd '[:print:]\n')
        ask "select vcs.code_import_job_update_heartbeat(:'job', :'tail')"
        case $sqlstate$row in 00000stop) : "${status:=killed}" ;; IJ*) status=gone ;; esac
        [[ $over ]] && : "${status:=released}"
    done
    { kill -KILL -- -"$work"; wait "$work"; } 2>/dev/null
    [[ $status == released ]] && end="release(:'job')" || end="finish(:'job', :'status')"
    [[ $status == gone ]] || until ask "select vcs.code_import_job_$end"; do sleep "$beat"; done
done
