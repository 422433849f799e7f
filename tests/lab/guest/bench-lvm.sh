# lab: guests=3 time=3000 load=busy kernel=stable
# what: LVM on two hosts, the kernel's stack with sanlock and sanblk in turns
. /host/lvm.sh
# ROUNDS and others
. /host/bench.env
LIMIT=600

story() {
    for _version in "kernel $(uname -r)" "lvm2 $(dpkg-query -Wf '${Version}' lvm2)" \
        "lvm2-lockd $(dpkg-query -Wf '${Version}' lvm2-lockd)" "sanlock $(dpkg-query -Wf '${Version}' sanlock)" \
        "open-iscsi $(dpkg-query -Wf '${Version}' open-iscsi)" "multipath-tools $(dpkg-query -Wf '${Version}' multipath-tools)" \
        "$(sanblk --version)" "three guests of one core"; do
        echo "@version $_version"
    done
    STACKS='kernel sanblk'
    for ROUND in $(seq "$ROUNDS"); do
        for STACK in $STACKS; do round; done
        STACKS="${STACKS#* } ${STACKS% *}"
    done
}

round() {
    say "== $STACK, round $ROUND"
    target_up
    both stack_up "$STACK"
    on host1 timed "vgcreate --shared" create
    on host2 timed "lock-start of a second host" locks_start
    on host1 timed lvcreate lvcreate -y -Wn -an -L 64M -n lv0 vg0
    on host1 vgs -o+locktype
    on host2 vgs -o+locktype
    for _n in 1 2 3; do
        on host1 timed "activation, exclusive" lvchange -aey vg0/lv0
        on host2 timed refusal locked lvchange -aey vg0/lv0
        on host1 timed deactivation lvchange -an vg0/lv0
        on host1 timed "activation, shared" lvchange -asy vg0/lv0
        on host2 timed "activation, shared, second host" lvchange -asy vg0/lv0
        both lvchange -an vg0/lv0
    done
    on host1 timed "lock-stop" locks_stop
    on host1 timed "lock-start under the same host id" locks_start
    on host1 lvchange -aey vg0/lv0
    on host2 timed "take-over" take_over &
    TAKER=$!
    power_cycle host1
    joined $TAKER
    power_cycle host2
    target_down
    rm -rf "$STORE"
}

create() { vgcreate --shared vg0 "$(disk)"; }
# The one that has it is about to lose its power.
take_over() {
    until lvchange -aey vg0/lv0 >/dev/null 2>&1; do sleep 0.5; done
}

# timed ROW COMMAND...
timed() {
    _row=$1
    shift
    _from=$(date +%s%N)
    "$@" || return
    echo "@row {\"row\":\"$_row\",\"stack\":\"$(cat /run/stack)\",\"ms\":$((($(date +%s%N) - _from) / 1000000))}"
}
