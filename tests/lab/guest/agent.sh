# Runs in the guest as a child of PID 1: executes the scenarios named in /host/plan one after the other and
# tells the host about it in lines that start with "@lab" (see tests/lab/src/guest.rs).
. /host/lib.sh

# Standard output of everything: each line gets the guest's clock in front, "12.34|text".
mkfifo /run/console
mawk -W interactive '{ getline up < "/proc/uptime"; close("/proc/uptime"); split(up, t, " "); print t[1] "|" $0 }' \
    </run/console >/dev/hvc0 &
stamper=$!
mode=$(cat /host/mode)
[ "$mode" = shell ] || exec >/run/console 2>&1

# The kernel log, live, where the host can read it.
dmesg --follow >/host/out/dmesg.log &
follower=$!
sysctl -q kernel.panic_on_oops=1 kernel.printk_devkmsg=on kernel.watchdog_thresh=30

# On request (the host writes /host/dump before it kills a guest that ran out of time): who hangs where.
(
    while :; do
        sleep 1
        [ -e /host/dump ] || continue
        {
            ps axo pid,ppid,stat,wchan:24,args | grep -v '\[.*\]$'
            ps axo pid,stat,wchan:24,args | awk '$2 ~ /^D/'
            ss -tnpi 2>/dev/null
        } >/host/out/dump.txt 2>&1
        echo w >/proc/sysrq-trigger
        save_logs dump
        sleep 1
        touch /host/out/dump.done
        exit
    done
) &
dumper=$!

# The program under test: from local memory, since the shared directory is slow to page from.
if [ -f /host/bin/sanblk ]; then install -m 755 /host/bin/sanblk /usr/local/bin/sanblk; fi
export PATH="$PATH:/usr/local/bin"
for rules in /host/dist/*.rules /host/dist/*/*.rules; do
    [ ! -f "$rules" ] || cp "$rules" /usr/lib/udev/rules.d/
done
printf '%s\n' 'devices { use_devicesfile = 0 }' 'activation { udev_sync = 1 }' >/etc/lvm/lvm.conf
udev_up
keep="$$ $stamper $follower $dumper $(pgrep -x systemd-udevd | tr '\n' ' ')"
export LAB_KEEP="$keep"

mark() { echo "lab: $*" >/dev/kmsg; echo "@lab $*"; }

mark ready "$(uname -r)"
if [ "$mode" = shell ]; then
    sh /host/shell.sh
    exit
fi
if [ -f /host/role ]; then
    # One of several guests: a part in one scenario, and then the power goes.
    read -r name </host/plan
    export LAB_NAME="$name"
    mark begin "$name"
    setsid sh /host/part.sh </dev/null
    rc=$?
    mark end "$name" "$rc"
    sleep 1
    exit
fi
while read -r name; do
    mark begin "$name"
    export LAB_NAME="$name"
    script=/host/scenarios/$name.sh
    [ -f "$script" ] || script=/host/$name.sh
    setsid sh "$script" </dev/null
    rc=$?
    save_logs "$name"
    mark end "$name" "$rc"
    if ! reason=$(reset 2>&1); then
        echo "$reason"
        mark dirty "$name" "$(echo "$reason" | tail -1)"
        break
    fi
    mark clean "$name"
done </host/plan
mark done
# Let the last lines reach the console before the power goes.
exec >/dev/null 2>&1
sleep 0.2
