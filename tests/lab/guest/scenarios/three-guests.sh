# lab: guests=3 time=60 load=waits long=yes
# what: the lab's own ground for two hosts: cables, calls, answers, a cut VLAN, a host that loses its power
story() {
    target_up
    both reach 5 6
    same host1 "$(ask host1 hostname)" "who answers"
    same "it's two  words" "$(ask host2 echo "it's two  words")" "a call with blanks and quotes"
    on host1 refused 3 sh -c 'echo no; exit 3'

    vlan_cut host1 5
    on host1 not reach 5
    on host1 reach 6
    on host2 reach 5 6
    vlan_give host1 5
    on host1 reach 5

    on host2 touch /tmp/before
    ask host2 sleep 100 &
    sleep 1
    power_cycle host2
    wait $! && fail "a call outlived its host"
    on host2 test ! -e /tmp/before
    on host2 reach 5 6
}

reach() {
    for vlan; do ping -c 1 -W 2 "10.20.$vlan.254" >/dev/null || return; done
}
