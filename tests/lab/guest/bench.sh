# What the suites of `cargo lab bench` share: bench-device.sh, bench-scheduler.sh, bench-failover.sh, bench-leases.sh. Each
# measurement is one line "@row {json}", each program's version one "@version ..."; tests/lab/src/bench/ makes the tables.
. /host/lib.sh
# ROUNDS, ROW_SECONDS, MBIT, POLICIES, SEED
. /host/bench.env
cd /tmp || exit 1

for _version in "kernel $(uname -r)" "$(fio --version)" "$(iscsiadm --version)" \
    "multipath-tools $(dpkg-query -Wf '${Version}' multipath-tools)" "$(sanblk --version 2>/dev/null)" \
    "cpu $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) cores"; do
    echo "@version $_version"
done

# rotated N WORD...: the words, starting with another one in each round, so that none always follows the same one.
rotated() {
    _by=$1
    shift
    while [ "$_by" -gt 0 ]; do
        _head=$1
        shift
        set -- "$@" "$_head"
        _by=$((_by - 1))
    done
    echo "$*"
}

# --- fio ----------------------------------------------------------------------------------------------------

# jobs_begin, then job..., then jobs_run: one fio that runs them one after the other on $DEV.
jobs_begin() {
    cat >jobs.fio <<E
[global]
direct=1
ioengine=libaio
thread
randseed=$SEED
norandommap
filename=$DEV
size=100%
time_based
exec_prerun=cat /proc/stat
exec_postrun=cat /proc/stat
E
}

# job NAME SECONDS RAMP-SECONDS KEY=VALUE...: the name has no blank; its row shows one for every dash.
job() {
    _name=$1 _runtime=$2 _ramp=$3
    shift 3
    { printf '%s\n' "[$_name]" stonewall "runtime=$_runtime" "ramp_time=$_ramp" "$@"; } >>jobs.fio
}

# beside NAME KEY=VALUE...: runs together with the job before it.
beside() {
    _name=$1
    shift
    { printf '%s\n' "[$_name]" "runtime=$_runtime" "ramp_time=$_ramp" "$@"; } >>jobs.fio
}

# jobs_run JSON: runs them and prints a row for each, to which the members of the JSON object are added.
jobs_run() {
    fio --output-format=json --output=jobs.json jobs.fio >jobs.out 2>&1 ||
        { cat jobs.out jobs.json | head -30; fail "fio on $DEV: $1"; }
    sed -n '/^{/,$p' jobs.json >jobs.clean
    for _name in $(jq -r '.jobs[].jobname' jobs.clean); do
        jq -c --arg name "$_name" --argjson more "$1" \
            --argjson before "$(cpu_ticks "$_name.prerun.txt")" --argjson after "$(cpu_ticks "$_name.postrun.txt")" '
            .jobs[] | select(.jobname == $name) | . as $j |
            (if $j.read.total_ios > 0 then $j.read else $j.write end) as $d | ($d.clat_ns.percentile // {}) as $p |
            ($after.busy - $before.busy) as $busy | ($after.all - $before.all) as $all |
            $more + {row: ($name | gsub("-"; " ")), error: $j.error, iops: $d.iops, mib_s: ($d.bw_bytes / 1048576),
             mean_us: ($d.clat_ns.mean / 1000), p50_us: (($p["50.000000"] // 0) / 1000),
             p99_us: (($p["99.000000"] // 0) / 1000), p999_us: (($p["99.900000"] // 0) / 1000),
             max_us: ($d.clat_ns.max / 1000), ios: $d.total_ios, busy_percent: (100 * $busy / ([$all, 1] | max) | round),
             cpu_us_per_io: ($busy * 10000 / ([$d.total_ios, 1] | max))}' jobs.clean | sed 's/^/@row /'
    done
}

# cpu_ticks FILE: hundredths of a second since boot, of all CPUs: busy, and busy or not.
cpu_ticks() {
    awk '/^cpu /{ busy = $2 + $3 + $4 + $7 + $8 + $9; printf "{\"busy\":%d,\"all\":%d}", busy, busy + $5 + $6 }' "$1"
}
